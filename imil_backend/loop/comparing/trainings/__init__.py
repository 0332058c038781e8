"""The trainings of a comparison: which samples, who is asked about which, and running them."""
