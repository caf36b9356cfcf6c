"""What `faults.py` lets happen, and the servers that it happens to."""
