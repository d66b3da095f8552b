"""Training: batches, optimisers, early stopping. Reports to a listener; knows no MLflow."""
