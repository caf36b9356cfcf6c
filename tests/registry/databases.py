"""Real databases of a test's own, on free loopback ports: Debian's Redis and PostgreSQL, started in a moment.

PostgreSQL refuses to run as root; as root it runs as the user `postgres`, which Debian's package makes.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from tests.support.needs import postgres_folder
from tests.support.running import Launched, eventually, run

USER, PASSWORD = "billing_user", "s3cret-p4ssword"
CREATE: LiteralString = "create role billing_user login password 's3cret-p4ssword'"
RESTORE: LiteralString = "alter role billing_user password 's3cret-p4ssword'"


def free_port(*hosts: str) -> int:
    """Find a port that is free at some addresses, 127.0.0.1 if none are named, and is given to no connection."""
    while True:
        port = random.randrange(20_000, 32_000)  # below those that the kernel gives out (ip_local_port_range)
        try:
            for host in hosts or ("127.0.0.1",):
                with socket.socket() as probe:
                    probe.bind((host, port))
        except OSError:
            continue
        return port


class Database:
    """A server that a test may stop, start again, hold up, and ask as its administrator."""

    end_signal = signal.SIGKILL

    def __init__(self, url: str, command: list[str], port: int, folder: Path) -> None:
        self.url = url
        self.port = port
        self._command = command
        self._folder = folder
        self._running: Launched | None = None

    def answers(self) -> bool:
        """Whether it answers, be it only to ask for a password."""
        raise NotImplementedError

    def number(self, service: str, name: str) -> int:
        """The number of the last write to an entry, tombstones included; 0 where there is none."""
        raise NotImplementedError

    def write_raw(self, service: str, name: str, body: str) -> None:
        """Write an entry as a stranger might."""
        raise NotImplementedError

    def refuse_writes(self) -> None:
        """Serve reads alone from now on."""
        raise NotImplementedError

    def take_writes(self) -> None:
        """Take writes again."""
        raise NotImplementedError

    def change_password(self, password: str) -> None:
        """Take another password of the user, and close its connections."""
        raise NotImplementedError

    def start(self) -> None:
        self._running = Launched(self._command, cwd=self._folder)
        assert eventually(self.answers), self._running.output

    def stop(self) -> None:
        """End it at once; Redis loses the registry."""
        if self._running is not None:
            self.resume()
            self._running.end(self.end_signal)
            self._running.stop()
            self._running = None

    def hold(self) -> None:
        """Let it answer nothing, and keep its connections."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        for process in self._processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)

    def _processes(self) -> list[int]:
        assert self._running is not None
        top = self._running.process.pid
        return [top, *map(int, Path(f"/proc/{top}/task/{top}/children").read_text().split())]


class RedisServer(Database):
    """A Redis that keeps nothing on disk."""

    def ask(self, *command: str | int) -> str:
        """Ask it as its administrator."""
        asked = self._client(PASSWORD, *map(str, command))
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.strip()

    def _client(self, password: str, *command: str) -> subprocess.CompletedProcess[str]:
        return run("-p", str(self.port), "-a", password, "--no-auth-warning", *command, command=("redis-cli",))

    def answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        return False

    def number(self, service: str, name: str) -> int:
        record = self.ask("HGET", f"{{duallisten}}:entries:{service}", name)
        return int(record.split(" ")[2]) if record else 0

    def write_raw(self, service: str, name: str, body: str) -> None:
        self.ask("HSET", f"{{duallisten}}:entries:{service}", name, f"stranger 1 1 9000000000000000 {body}")

    def refuse_writes(self) -> None:
        self.ask("REPLICAOF", "127.0.0.1", 1)  # a replica of nobody who is there

    def take_writes(self) -> None:
        self.ask("REPLICAOF", "NO", "ONE")

    def change_password(self, password: str) -> None:
        self.ask("CONFIG", "SET", "requirepass", password)
        self._client(password, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")  # which ends the client, too


class PostgresServer(Database):
    """A PostgreSQL with a database and a user of the platform's kind."""

    end_signal = signal.SIGQUIT  # the immediate shutdown, after which it recovers as from a crash

    def ask(self, statement: LiteralString, database: str = USER) -> list[tuple[Any, ...]]:
        """Carry out a statement as its administrator."""
        url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/{database}"
        with psycopg.connect(url, autocommit=True, connect_timeout=2) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def answers(self) -> bool:
        with suppress(psycopg.Error):
            return bool(self.ask("select 1", "postgres"))
        return False

    def renew(self) -> None:
        """Put all back as it was made."""
        self.change_password(PASSWORD)
        self.take_writes()
        self.ask("drop table if exists duallisten_registry")

    def number(self, service: str, name: str) -> int:
        return dict(self._numbers()).get((service, name), 0)

    def _numbers(self) -> list[tuple[tuple[str, str], int]]:
        rows = self.ask("select service, id, number from duallisten_registry")
        return [((service, name), number) for service, name, number in rows]

    def write_raw(self, service: str, name: str, body: str) -> None:
        url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/{USER}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "insert into duallisten_registry values (%s, %s, 'stranger', 1, 1, now() + '1 day', %s)",
                (service, name, body),
            )

    def refuse_writes(self) -> None:
        self.ask("alter role billing_user set default_transaction_read_only = on")
        self.end_sessions()

    def take_writes(self) -> None:
        self.ask("alter role billing_user reset all")
        self.end_sessions()

    def change_password(self, password: str) -> None:
        self.ask("alter role billing_user password 'other'" if password != PASSWORD else RESTORE)
        self.end_sessions()

    def end_sessions(self) -> None:
        """Close all connections of the user."""
        self.ask("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'billing_user'")


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """Run a Redis that keeps nothing on disk, with a password."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        given = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD, *options]
        url = f"redis://:{PASSWORD}@127.0.0.1:{port}"
        server = RedisServer(url, ["redis-server", *given], port, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a PostgreSQL with a database and a user of the platform's kind."""
    programs, port = postgres_folder(), free_port()
    assert programs is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        as_user = []
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
            as_user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"]
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        make = ["--pgdata", str(folder / "data"), "--auth", "scram-sha-256", "--username", "postgres"]
        make += ["--pwfile", str(password), "--no-sync", "--encoding", "UTF8", "--locale", "C"]
        made = run(*make, command=[*as_user, str(programs / "initdb")], cwd=folder)
        assert made.returncode == 0, made.stderr
        serve = ["-D", str(folder / "data"), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
        url = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/{USER}?sslmode=prefer"
        server = PostgresServer(url, [*as_user, str(programs / "postgres"), *serve], port, folder)
        server.start()
        try:
            server.ask(CREATE, "postgres")
            server.ask("create database billing_user owner billing_user", "postgres")
            yield server
        finally:
            server.stop()
