"""The observed application under a name that a command line can import."""

from tests.applications import Observed

app = Observed()
