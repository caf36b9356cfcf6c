"""What can go wrong: before a listener is open, and in the end, as a small tree.

The library raises these and never prints or exits by itself; the command line prints the message in one line and exits
with `exit_code`. A message says what was wrong, where it came from (option, variable, file) and what to do.
"""

from __future__ import annotations


class DuallistenError(Exception):
    """Anything duallisten refuses, with a message fit for one line of standard error."""

    exit_code = 3


class UsageError(DuallistenError, ValueError):
    """What was said cannot be read: an unknown option or key, a value of the wrong form."""

    exit_code = 2


class LaunchError(DuallistenError):
    """What was said was understood and cannot be carried out here; uvicorn's exit code for it is 3."""


class ShutdownError(DuallistenError):
    """The launch has served, and its end failed: an application's shutdown raised, or a worker had to be killed."""

    exit_code = 1


class ImportFailed(LaunchError, ImportError):  # noqa: N818
    """What was named cannot be imported, or raises where it is."""


class LaunchExit(LaunchError, SystemExit):  # noqa: N818
    """A launch error as it leaves `run` and `Server.run`, whose message has been logged; uvicorn exits there.

    Who catches either has it. Uncaught it ends the process with uvicorn's exit code, by which uvicorn's supervisor
    knows that another try would fail, too. Everywhere else a plain `LaunchError` is raised: a SystemExit in a task
    would stop the event loop of whoever awaits `Server.serve`.
    """

    code = LaunchError.exit_code


class PrivateAddressMissing(LaunchError):  # noqa: N818
    """The host has no address (yet) where the private listener should be."""
