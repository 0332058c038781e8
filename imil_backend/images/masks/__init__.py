"""Label Studio's regions to masks, and masks to blackouts."""
