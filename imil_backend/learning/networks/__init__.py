"""ResNet-50, its weights, and the device that it runs on."""
