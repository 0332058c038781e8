"""The networks, their weights, and the device that they run on."""
