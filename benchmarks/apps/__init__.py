"""The applications that the benchmarks serve, imported from the folder above: `uvicorn apps.hello:app`."""
