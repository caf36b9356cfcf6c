"""OpenTelemetry: spans carry the side (`sides`), and instrumentation reaches every process of a launch (`processes`).

Nothing of it is imported, and nothing is done at a request, where OpenTelemetry is not: it is for processes that have
it already. It sets up nothing of its own; what is exported, and where to, is said as everywhere, by `OTEL_...` or by
the application. So there is nothing to depend on, and no extra to install.
"""
