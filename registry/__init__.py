"""The model registry as everybody reads it, over MLflow, which is imported when it is first called."""
