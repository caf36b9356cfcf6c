"""The status page: figures once a second, as text, as a stream of events and as HTML."""
