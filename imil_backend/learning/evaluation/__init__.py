"""What predictions show of one version: estimates with intervals, curves, calibration. Pure numpy."""
