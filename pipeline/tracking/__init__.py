"""Tracking: runs in MLflow, provenance, the registry, serving. Knows no cell."""
