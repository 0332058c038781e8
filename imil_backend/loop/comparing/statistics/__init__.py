"""What runs say of arms: measures, paired intervals, tests, and what may be claimed."""
