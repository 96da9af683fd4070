"""What Upkeep remembers: runs, findings and samples, through SQLAlchemy."""
