"""A small estate of real hosts on one Linux machine, for tests and for trying Upkeep out."""
