"""Trained versions: prepared, recorded, asked for mispredictions, compared, promoted."""
