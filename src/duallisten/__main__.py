"""The program: `python -m duallisten`, and the console script.

It keeps the garbage collector from running while everything is imported, when nothing is garbage yet; that is a
quarter of what a start takes longer than uvicorn's. The command line turns it on again before the application is
imported.
"""

import gc


def main() -> None:
    """Run the command line."""
    gc.disable()
    from duallisten.cli import main as run_command_line

    run_command_line()


if __name__ == "__main__":
    main()
