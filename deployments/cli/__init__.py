"""The command line `upkeep`, one module per verb."""
