"""The results of a training."""
