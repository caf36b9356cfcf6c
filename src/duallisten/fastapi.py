"""Private routes in FastAPI applications: see `duallisten.endpoints.frameworks.fastapi`."""

from duallisten.endpoints.frameworks.fastapi import PrivateRoute, PrivateRouter, private, public

__all__ = ["PrivateRoute", "PrivateRouter", "private", "public"]
