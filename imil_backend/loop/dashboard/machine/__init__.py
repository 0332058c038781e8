"""The machine: checks, workers, queues, disk, and trainings under way."""
