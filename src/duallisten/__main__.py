"""The program: `python -m duallisten`, and the console script.

It disables the garbage collector during imports, when there is no garbage yet. That saves a quarter of the time that
startup takes longer than uvicorn's. The command line enables it again before it imports the application.

A closed standard stream (`>&-`) is `None` in Python, which uvicorn's logging and many applications do not expect. Its
descriptor would also go to the next opened file or socket, and libraries that print would write there. So closed
streams are first opened again, on the null device.

Signals that would end a process before it can act on them are held back until it can (`processes.process_signals`).
"""

import gc
import os
import sys


def main() -> None:
    """Run the command line."""
    if sys.platform == "win32":
        sys.stderr.write("duallisten: nothing is served on Windows: duallisten serves on Linux and macOS\n")
        sys.exit(3)
    gc.disable()
    if None in (sys.stdin, sys.stdout, sys.stderr):
        open_closed_streams()
    from duallisten.processes.process_signals import hold

    hold()
    from duallisten.cli.main import main as run_command_line

    run_command_line()


def open_closed_streams() -> None:
    """Open closed standard streams on the null device; child processes inherit them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest free one, which in this order is the stream's own
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode))


if __name__ == "__main__":
    main()
