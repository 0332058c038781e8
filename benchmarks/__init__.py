"""Benchmarks: every figure is a ratio of things measured side by side; `python -m benchmarks` runs them."""
