"""What a run was made from: git, dvc.lock, hashes; knows no MLflow."""
