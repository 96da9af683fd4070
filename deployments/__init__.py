"""How Upkeep is served: the command line, the deployments, and the files that production needs."""
