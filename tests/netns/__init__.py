"""Tests over real networks: each builds a container with two interfaces out of network namespaces (Linux, root)."""
