"""What the worker does, and when."""
