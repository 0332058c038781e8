"""What each page of the dashboard shows, as plain values; without HTML and without Flask."""
