"""duallisten's own endpoints, in front of the application on the private side: health, metrics, status page."""
