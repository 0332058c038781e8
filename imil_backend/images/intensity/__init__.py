"""Grey values: windows, and any depth to 8 bits."""
