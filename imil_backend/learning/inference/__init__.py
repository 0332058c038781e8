"""Predictions of a version."""
