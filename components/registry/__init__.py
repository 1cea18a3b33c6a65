"""The model registry in MLflow: versions written once and whole, and read back; MLflow is imported on first use."""
