"""`python -m duallisten.registry URL [SERVICE]`: list the instances, as a table or JSON, once or at each change.

Instead of the URL, the name of an environment variable that holds it may be given, so that no process list shows its
password. No message repeats an argument, because it may be the URL. Entries with any address are shown, except
link-local ones, which are never followed.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from typing import NoReturn

from duallisten.errors import DuallistenError, UsageError
from duallisten.logs import print_line, print_rows
from duallisten.registry.backend import read_url
from duallisten.registry.entry import Instance
from duallisten.registry.finding import Registry

COLUMNS = ("service", "id", "state", "private side", "public port", "host", "container", "version", "age")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print the usage and exit, without repeating the arguments."""
        self.print_usage(sys.stderr)
        self.exit(UsageError.exit_code, "Error: give the registry's URL and at most one service\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    parser = _Parser(
        prog="python -m duallisten.registry", description="List the instances in a registry.", allow_abbrev=False
    )
    parser.add_argument("url", help="the registry's URL, or the name of an environment variable that holds it")
    parser.add_argument("service", nargs="?", help="show only this service")
    parser.add_argument("--json", action="store_true", help="print JSON; with --watch, one line for each change")
    parser.add_argument("--watch", action="store_true", help="print the instances again at each change")
    given = parser.parse_args(arguments)
    try:
        asyncio.run(_show(read_url(given.url), given.service, as_json=given.json, watch=given.watch))
    except DuallistenError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Otherwise Python reports the broken pipe when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


async def _show(url: str, service: str | None, *, as_json: bool, watch: bool) -> None:
    async with Registry(url, networks=("0.0.0.0/0", "::/0")) as registry:
        instances = await registry.instances(service)  # raises if the registry is unreachable; `watch` does not
        if not watch:
            _print(instances, as_json=as_json, indent=2)
            return
        async with aclosing(registry.watch(service)) as changes:
            async for instances in changes:
                _print(instances, as_json=as_json, indent=None)


def _print(instances: Iterable[Instance], *, as_json: bool, indent: int | None) -> None:
    if as_json:
        sys.stdout.write(json.dumps([one._asdict() for one in instances], indent=indent) + "\n")
        sys.stdout.flush()
        return
    now = datetime.datetime.now(datetime.UTC)
    rows = [_cells(one, now) for one in instances]
    if rows:
        print_rows(COLUMNS, rows)
    else:
        print_line("No instances are registered.")
    sys.stdout.flush()


def _cells(one: Instance, now: datetime.datetime) -> tuple[str, ...]:
    ports = one.url or "-", "-" if one.public_port is None else str(one.public_port)
    return (one.service, one.id, one.state, *ports, one.host, one.container, one.version, _age(one, now))


def _age(one: Instance, now: datetime.datetime) -> str:
    if not one.started_at:
        return ""
    seconds = max(0, int((now - datetime.datetime.fromisoformat(one.started_at)).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


if __name__ == "__main__":
    raise SystemExit(main())
