"""Private routes in FastAPI applications: see `duallisten.endpoints.frameworks.fastapi_marks`."""

from duallisten.endpoints.frameworks.fastapi_marks import PrivateRoute, PrivateRouter, private, public

__all__ = ["PrivateRoute", "PrivateRouter", "private", "public"]
