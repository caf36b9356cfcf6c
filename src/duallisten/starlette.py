"""Private routes in Starlette applications: see `duallisten.endpoints.frameworks.starlette_marks`."""

from duallisten.endpoints.frameworks.starlette_marks import PrivateRoute, private, public

__all__ = ["PrivateRoute", "private", "public"]
