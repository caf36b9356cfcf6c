"""What the commands above have in common: servers and load, rounds, and how results are written down."""
