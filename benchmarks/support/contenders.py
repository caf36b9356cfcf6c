"""The servers that are compared, each as its users start it: its own defaults, and what a work asks of it.

A contender is one or several processes and the port that is loaded. Where an access log is asked for, each writes its
own, to standard output; where none is, each is told so in its own words. All listen on 127.0.0.1 alone.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from support.measuring import Command, Cores, free_ports, running, stop

PROGRAMS = ("hypercorn", "granian", "gunicorn", "daphne")

GUNICORN = ("gunicorn", "--no-control-socket")
UVICORN_WORKER = ("-k", "uvicorn_worker.UvicornWorker")

NGINX = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
worker_processes 1;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream application {{
        server 127.0.0.1:{upstream};
        keepalive 64;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr;
    server {{
        listen 127.0.0.1:{public};
        location /internal {{ return 404; }}
        location / {{ proxy_pass http://application; }}
    }}
    server {{
        listen 127.0.0.1:{private};
        location / {{ proxy_pass http://application; }}
    }}
}}
"""
"""nginx in front of a server, with two addresses and a prefix hidden on one."""


class Contender(NamedTuple):
    """A server of one work.

    name: what it is called in tables
    commands: its processes, in the order in which they are started
    loaded: the port that is loaded
    """

    name: str
    commands: tuple[Command, ...]
    loaded: int


@contextmanager
def serving(contender: Contender, cores: Cores) -> Iterator[list[int]]:
    """Run a contender; gives the ids of its processes."""
    with ExitStack() as stack:
        yield [stack.enter_context(running(command, cores)).pid for command in contender.commands]


def _one(name: str, arguments: tuple[str, ...], *ports: int, loaded: int | None = None) -> Contender:
    loaded = ports[0] if loaded is None else loaded
    return Contender(name, (Command(arguments, ports, loaded),), loaded)


def uvicorn(app: str, *flags: str, log: bool = True) -> Contender:
    """Give uvicorn, as the others are given: with its defaults, `flags`, and an access log or none."""
    (port,) = free_ports(1)
    return _one("uvicorn", ("uvicorn", app, "--port", str(port), *_unless(log, "--no-access-log"), *flags), port)


def duallisten(app: str, *flags: str, log: bool = True, side: str = "public", name: str = "") -> Contender:
    """Give duallisten, with both listeners open and that of `side` loaded."""
    public, private = free_ports(2)
    ports = ("--port", str(public), "--private-port", str(private))
    arguments = ("duallisten", app, *ports, *_unless(log, "--no-access-log"), *flags)
    loaded = private if side == "private" else public
    return _one(name or f"duallisten, {side} side", arguments, public, private, loaded=loaded)


def granian(app: str, *flags: str, log: bool = True) -> Contender:
    """Give granian; its access log is off unless it is asked for."""
    (port,) = free_ports(1)
    arguments = ("granian", "--interface", "asgi", app, "--port", str(port), *_if(log, "--access-log"), *flags)
    return _one("granian", arguments, port)


def hypercorn(app: str, *flags: str, log: bool = True) -> Contender:
    """Give hypercorn; its access log is off unless it is asked for."""
    (port,) = free_ports(1)
    arguments = ("hypercorn", app, "--bind", f"127.0.0.1:{port}", *_if(log, "--access-logfile", "-"), *flags)
    return _one("hypercorn", arguments, port)


def gunicorn_uvicorn(app: str, *flags: str, log: bool = True) -> Contender:
    """Give gunicorn with uvicorn's worker; its access log is off unless it is asked for."""
    (port,) = free_ports(1)
    arguments = (*GUNICORN, app, *UVICORN_WORKER, "-b", f"127.0.0.1:{port}", *_if(log, "--access-logfile", "-"), *flags)
    return _one("gunicorn, uvicorn worker", arguments, port)


def gunicorn_asgi(app: str, *flags: str, log: bool = True) -> Contender:
    """Give gunicorn with its own worker for ASGI; its access log is off unless it is asked for."""
    (port,) = free_ports(1)
    arguments = (*GUNICORN, app, "-k", "asgi", "-b", f"127.0.0.1:{port}", *_if(log, "--access-logfile", "-"), *flags)
    return _one("gunicorn, asgi worker", arguments, port)


def daphne(app: str, *, log: bool = True) -> Contender:
    """Give daphne; its access log is on unless it is told to be silent."""
    (port,) = free_ports(1)
    return _one("daphne", ("daphne", app, "-p", str(port), *_unless(log, "-v", "0")), port)


def everyone(app: str, *, log: bool) -> list[Contender]:
    """Give all of them, with one process and one listener each; duallisten once for each side."""
    return [
        uvicorn(app, log=log),
        duallisten(app, log=log),
        duallisten(app, log=log, side="private"),
        granian(app, log=log),
        gunicorn_uvicorn(app, log=log),
        gunicorn_asgi(app, log=log),
        hypercorn(app, log=log),
        daphne(app, log=log),
    ]


# --- Two addresses, and a prefix hidden on one ---


def two_sided(side: str, folder: Path) -> list[Contender]:
    """Give those that can do duallisten's work, each with the address of `side` loaded; none writes an access log.

    folder: where nginx keeps its files
    """
    rules = duallisten(
        "apps.hello:app", "--private-path", "/internal", log=False, side=side, name="duallisten, path rules"
    )
    return [
        rules,
        _routed("hypercorn, middleware", side, lambda a, b: ("hypercorn", "apps.routed:app", "--bind", a, "--bind", b)),
        _routed(
            "gunicorn, uvicorn worker, middleware",
            side,
            lambda a, b: (*GUNICORN, "apps.routed:app", *UVICORN_WORKER, "-b", a, "-b", b),
        ),
        _routed(
            "gunicorn, asgi worker, middleware",
            side,
            lambda a, b: (*GUNICORN, "apps.routed:app", "-k", "asgi", "-b", a, "-b", b),
        ),
        _proxied(side, folder),
    ]


def _routed(name: str, side: str, arguments: Callable[[str, str], tuple[str, ...]]) -> Contender:
    """Give a server with two binds and the middleware that tells them apart."""
    public, private = free_ports(2)
    loaded = private if side == "private" else public
    line = arguments(f"127.0.0.1:{public}", f"127.0.0.1:{private}")
    return Contender(
        name, (Command(line, (public, private), loaded, variables=(("PUBLIC_PORT", str(public)),)),), loaded
    )


def _proxied(side: str, folder: Path) -> Contender:
    """Give uvicorn behind an nginx on the same core, in one process each."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if nginx is None:
        stop("nginx is not installed (Debian: apt install nginx-light)")
    upstream, public, private = free_ports(3)
    own = Path(tempfile.mkdtemp(dir=folder))
    file = own / "nginx.conf"
    user = "user root;" if Path.home() == Path("/root") else ""
    file.write_text(NGINX.format(folder=own, user=user, upstream=upstream, public=public, private=private))
    loaded = private if side == "private" else public
    uvicorn_line = ("uvicorn", "apps.hello:app", "--port", str(upstream), "--no-access-log")
    commands = (
        Command(uvicorn_line, (upstream,), upstream),
        Command((nginx, "-c", str(file), "-p", str(own), "-e", "stderr"), (public, private), loaded),
    )
    return Contender("nginx before uvicorn", commands, loaded)


def _if(condition: bool, *flags: str) -> tuple[str, ...]:
    return flags if condition else ()


def _unless(condition: bool, *flags: str) -> tuple[str, ...]:
    return () if condition else flags
