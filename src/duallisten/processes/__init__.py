"""A launch: the supervisor and its workers, the reloader, and what a service manager is told."""
