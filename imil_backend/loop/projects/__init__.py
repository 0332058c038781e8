"""Label Studio's projects: created, connected, disconnected, and what their labeling config means."""
