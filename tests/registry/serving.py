"""A server in a process of its own, with a registrar beside it, as a launch has them.

As a program: `python -m tests.registry.serving SERVICE ID [options]`, the registry's URL in `REGISTRY`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from duallisten import Config, Server
from duallisten.registry import Instance, Registrar, Timing
from tests.support.running import Launched


class Registered(Server):
    """A server that is in a registry from its first accept to its end."""

    def __init__(self, config: Config, make: Callable[[tuple[str, int]], Registrar]) -> None:
        super().__init__(config)
        self._make = make
        self.registrar: Registrar | None = None

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.registrar = self._make(self.addresses["private"])
            self.registrar.ready()

    async def shutdown(self, sockets: Any = None) -> None:
        await super().shutdown(sockets)
        if self.registrar is not None:  # before uvicorn raises the signal again, which ends the process
            await asyncio.to_thread(self.registrar.remove, 1.0)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.registrar is not None:
            self.registrar.draining(1.0)
        super().handle_exit(sig, frame)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("service")
    parser.add_argument("id")
    parser.add_argument("--app", default="duallisten.demo:app")
    parser.add_argument("--listeners", default="private")
    parser.add_argument("--private-host", default="127.0.0.1")
    parser.add_argument("--private-network", nargs="*")
    parser.add_argument("--private-port", type=int, default=0)
    parser.add_argument("--private-linger", type=float, default=0.0)
    parser.add_argument("--ttl", type=float, default=30.0)
    parser.add_argument("--beat", type=float, default=10.0)
    given = parser.parse_args()
    names = ("listeners", "private_host", "private_network", "private_port", "private_linger")
    options = {name: value for name in names if (value := getattr(given, name)) is not None}

    def make(address: tuple[str, int]) -> Registrar:
        instance = Instance(given.service, given.id, address[0], address[1], container=given.id)
        return Registrar(os.environ["REGISTRY"], instance, Timing(given.ttl, given.beat))

    Registered(Config(given.app, access_log=False, **options), make).run()


def command(service: str, name: str, *options: str) -> list[str]:
    """Give the command that serves."""
    return [sys.executable, "-m", "tests.registry.serving", service, name, *options]


def served(url: str, service: str, name: str, *options: str) -> Launched:
    """Serve in a process of its own."""
    return Launched(command(service, name, *options), environ={"REGISTRY": url})


if __name__ == "__main__":
    main()
