"""Steps and decisions, one package per domain."""
