"""Plots of versions as SVG files, drawn with matplotlib."""
