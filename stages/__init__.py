"""One module a stage of dvc.yaml: read params, call pipeline/, write outputs."""
