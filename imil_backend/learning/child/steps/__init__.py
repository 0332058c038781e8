"""What a training does in each epoch."""
