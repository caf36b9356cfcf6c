"""The observed application under a name that a command line can import."""

from tests.support.applications import Observed

app = Observed()
