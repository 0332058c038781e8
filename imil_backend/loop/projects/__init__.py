"""Label Studio's projects: made, connected, disconnected, and what their config means."""
