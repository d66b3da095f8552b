"""Asks and decides: lists, compares, promotes, reproduces runs, and shows them."""
