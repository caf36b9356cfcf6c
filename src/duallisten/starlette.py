"""Private routes in Starlette applications: see `duallisten.endpoints.frameworks.starlette`."""

from duallisten.endpoints.frameworks.starlette import PrivateRoute, private, public

__all__ = ["PrivateRoute", "private", "public"]
