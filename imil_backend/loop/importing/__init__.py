"""From rows to the samples of a dataset."""
