"""`python -m duallisten.control PATH COMMAND`: ask a running launch for its state, or give it a command.

The answer goes to standard output, as tables or with `--json` as the launch sent it. An error is one line on standard
error. The exit code is 2 for invalid arguments, and 3 for an unknown command, a launch that is gone, or a refusal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal

import typer
import typer.core
import typer.main

from duallisten.control.client import ask
from duallisten.control.protocol import COMMANDS, Action, Request
from duallisten.control.tables import print_answer
from duallisten.errors import DuallistenError, LaunchError, UsageError

AsJSON = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Level = Literal["critical", "error", "warning", "info", "debug", "trace"]


class Commands(typer.core.TyperGroup):
    """The commands; an unknown command has the exit code 3, as a launch that is gone."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command by its name; raises LaunchError for an unknown one."""
        if args and args[0] not in COMMANDS:
            near = get_close_matches(args[0], COMMANDS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"commands are {', '.join(COMMANDS)}"
            raise LaunchError(f"unknown command {args[0]!r}: {hint}")
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=Commands, add_completion=False, rich_markup_mode="rich")


@app.callback()
def _control(
    context: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="The socket of the launch: the PATH of its --control.")],
) -> None:
    """Show the state of a running launch of duallisten, or control it."""
    context.obj = path


@app.command()
def status(context: typer.Context, as_json: AsJSON = False) -> None:
    """Show processes, sides, versions and counters."""
    _run(context, Request("status"), as_json=as_json)


@app.command()
def workers(
    context: typer.Context,
    action: Annotated[Action, typer.Argument(metavar="ACTION", help="What to do.")] = "list",
    pid: Annotated[
        int | None, typer.Argument(metavar="PID", help="Process id of the worker to remove or replace.")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """List the workers; add one, remove one (the last, or PID), or replace PID when a successor serves."""
    if action in ("list", "add") and pid is not None:
        raise UsageError(f"workers {action} takes no process id")
    if action == "replace" and pid is None:
        raise UsageError("workers replace needs the process id of the worker: `workers` lists them")
    _run(context, Request("workers", action=action, pid=pid), as_json=as_json)


@app.command()
def reload(context: typer.Context, as_json: AsJSON = False) -> None:
    """Read the configuration file again and replace the workers one at a time, as SIGHUP does."""
    _run(context, Request("reload"), as_json=as_json)


@app.command()
def drain(
    context: typer.Context,
    off: Annotated[bool, typer.Option("--off", help="Undo a drain: report ready again.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Report not ready at readyz and in the registry; all listeners stay open."""
    _run(context, Request("drain", off=off), as_json=as_json)


@app.command()
def log_level(
    context: typer.Context,
    level: Annotated[Level, typer.Argument(metavar="LEVEL", help="A log level of uvicorn.")],
    as_json: AsJSON = False,
) -> None:
    """Set the log level in every process, until the launch ends."""
    _run(context, Request("log-level", level=level), as_json=as_json)


@app.command()
def tasks(context: typer.Context, as_json: AsJSON = False) -> None:
    """Show the asyncio tasks of every process, and where each waits."""
    _run(context, Request("tasks"), as_json=as_json)


@app.command()
def stacks(context: typer.Context, as_json: AsJSON = False) -> None:
    """Show the stack of every thread of every process, also while an event loop is blocked."""
    _run(context, Request("stacks"), as_json=as_json)


@app.command()
def connections(context: typer.Context, as_json: AsJSON = False) -> None:
    """Show connections by side and peer, and those with a request in flight, the longest first."""
    _run(context, Request("connections"), as_json=as_json)


def _run(context: typer.Context, request: Request, *, as_json: bool) -> None:
    answer = ask(context.obj, request)
    if as_json:
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    else:
        print_answer(request, answer)
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    command = typer.main.get_command(app)
    try:
        command.main(arguments, prog_name="python -m duallisten.control", standalone_mode=False)
    except DuallistenError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Otherwise Python reports the broken pipe when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        tell = getattr(error, "format_message", None)
        if tell is None:
            raise
        message = str(tell()).replace("Value error, ", "").rstrip(".")  # pydantic's prefix
        return _fail(f"{message}; see python -m duallisten.control --help", UsageError.exit_code)
    return 0


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"Error: {' '.join(message.split())}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
