"""From the pixel cache to batches on the device."""
