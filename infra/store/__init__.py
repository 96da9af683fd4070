"""What Upkeep remembers: runs, findings, samples and last counters, through SQLAlchemy.

`migrate` has the schema's revisions, `session` the connection, `runs` and `counters` one aggregate each.
Importing this package alone costs nothing.
"""
