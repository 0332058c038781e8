"""The dashboard: pages for people, under /dashboard."""
