"""The exceptions of a launch and of its shutdown, as one tree.

The library raises them and never prints or exits itself. The command line prints the message in one line and exits with
`exit_code`. A message says what was wrong, where it came from (option, variable, file) and what to do.
"""

from __future__ import annotations


class DuallistenError(Exception):
    """The base class of duallisten's errors; the message fits in one line of standard error.

    Attributes:
        exit_code: The exit code of the command line: 1 after a failed shutdown, 2 for invalid input, else 3.
    """

    exit_code = 3


class UsageError(DuallistenError, ValueError):
    """Invalid input: an unknown option or key, or a value that cannot be read."""

    exit_code = 2


class LaunchError(DuallistenError):
    """The input is valid, but the launch is not possible here; uvicorn's exit code for this is also 3."""


class ImportFailed(LaunchError, ImportError):  # noqa: N818
    """A named module or attribute cannot be imported, or its import raises an exception."""


class LaunchExit(LaunchError, SystemExit):  # noqa: N818
    """A launch error that `run` and `Server.run` have logged and raise, where uvicorn would exit.

    It can be caught as a `LaunchError` or as a `SystemExit`. Uncaught, it ends the process with uvicorn's exit code,
    which tells uvicorn's supervisor that another try would fail, too. All other functions raise a plain `LaunchError`:
    a SystemExit in a task would stop the event loop of the program that awaits `Server.serve`.
    """

    code = LaunchError.exit_code


class ShutdownError(DuallistenError):
    """A step of a shutdown has failed and was logged; the other steps have run."""

    exit_code = 1


class PrivateAddressMissing(LaunchError):  # noqa: N818
    """The host does not have the address for the private listener (yet)."""
