"""From annotations in Label Studio to the state of each sample."""
