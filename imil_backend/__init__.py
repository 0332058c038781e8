"""Interactive Medical Image Learning as a Label Studio ML backend."""

__version__ = "0.1.0"
