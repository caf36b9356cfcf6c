"""The program: `python -m duallisten`, and the console script.

It keeps the garbage collector from running while everything is imported, when nothing is garbage yet; that is a
quarter of what a start takes longer than uvicorn's. The command line turns it on again before the application is
imported.

A standard stream that was closed (`>&-`) is `None` in Python, which neither uvicorn's logging nor many an application
expects; and its descriptor would go to the next file or socket that is opened, into which a library that prints would
write. So it is opened again, on nothing, before all else.

Signals that would end a process which does not act on them yet wait until it does (`processes.process_signals`).
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
    """Open the standard streams that are closed, on the null device; processes that are started inherit them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: in this order, the stream's own
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode))


if __name__ == "__main__":
    main()
