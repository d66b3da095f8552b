"""What tests have workers do, who import it by its name."""

import os


def add(amount: int, item: int) -> int:
    return amount + item


def process_of(_: int) -> int:
    return os.getpid()


def divide(item: int) -> float:
    return 6 / item
