"""Health: what the facts mean."""
