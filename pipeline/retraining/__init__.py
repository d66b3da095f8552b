"""Retraining without a person: what changed is run, the result judged, and nothing worse ever promoted."""
