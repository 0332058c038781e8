"""Predictions for Label Studio, in the web process."""
