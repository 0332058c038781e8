"""Tells trackers of experiments, MLflow and TensorBoard, how trainings go. Off by default."""
