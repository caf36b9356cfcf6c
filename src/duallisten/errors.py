"""What can go wrong before a listener is open, and at the end, as one tree.

The library raises these and never prints or exits by itself; the command line prints the message in one line and exits
with `exit_code`. A message says what was wrong, where it came from (option, variable, file) and what to do.
"""

from __future__ import annotations


class DuallistenError(Exception):
    """Anything duallisten refuses, with a message fit for one line of standard error.

    Attributes:
        exit_code: With which the command line ends: 1 after a failed shutdown, 2 for what cannot be read, else 3.
    """

    exit_code = 3


class UsageError(DuallistenError, ValueError):
    """What was said cannot be read: an unknown option or key, a value of the wrong form."""

    exit_code = 2


class LaunchError(DuallistenError):
    """What was said was understood, and cannot be carried out here; 3 is uvicorn's exit code, too."""


class ImportFailed(LaunchError, ImportError):  # noqa: N818
    """What was named cannot be imported, or raises where it is."""


class LaunchExit(LaunchError, SystemExit):  # noqa: N818
    """A launch error as it leaves `run` and `Server.run`, whose message has been logged; uvicorn exits there.

    Who catches either has it. Uncaught it ends the process with uvicorn's exit code, by which uvicorn's supervisor
    knows that another try would fail, too. Everywhere else a plain `LaunchError` is raised: a SystemExit in a task
    would stop the event loop of whoever awaits `Server.serve`.
    """

    code = LaunchError.exit_code


class ShutdownError(DuallistenError):
    """A step of a shutdown has failed, and was logged; the other steps have run."""

    exit_code = 1


class PrivateAddressMissing(LaunchError):  # noqa: N818
    """The host has no address (yet) where the private listener should be."""
