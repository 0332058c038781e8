"""What people look at: the status and the export."""
