"""What goes in and out of a training process, and how one is started. No torch."""
