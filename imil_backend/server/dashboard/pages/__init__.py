"""The pages, each file with the routes of those that belong together."""
