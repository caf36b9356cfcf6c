"""Whether real programs run with duallisten in uvicorn's place: `python benchmarks/programs.py [NAME ...]`.

Each program of `support/programs/programs.toml` is installed from the index into an environment of its own, beside
duallisten from this tree, and started in its documented way. It passes when

- both sides serve the page that is open to both,
- the private side serves the hidden page, and the public side answers 404 for it,
- with two workers where the program can have several,
- SIGTERM ends it in `END_SECONDS`, and nothing of duallisten's is in a traceback.

The table goes to `results/programs.md`. This takes minutes and a network, so it is no part of CI.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "programs.md"
START_SECONDS = 90.0
END_SECONDS = 20.0


@dataclass(frozen=True)
class Program:
    """One program, as `programs.toml` has it."""

    name: str
    install: list[str]
    command: list[str]
    open: str
    hidden: str
    files: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    workers: int = 1
    post: str = ""


@dataclass(frozen=True)
class Outcome:
    """What was seen of a program; `wrong` is empty where all is well."""

    program: Program
    versions: str
    wrong: list[str]


def free_ports() -> tuple[int, int]:
    """Return two ports that are free now."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def environment_for(program: Program, home: Path) -> Path:
    """Install a program and duallisten; programs with the same requirements share an environment."""
    made = home / "-".join(name.partition("[")[0] for name in program.install)
    if not (made / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", made], check=True)
        pip = [str(made / "bin" / "python"), "-m", "pip", "install", "-q", *program.install, str(HERE.parent)]
        subprocess.run(pip, check=True)
        (made / "complete").touch()
    return made


def command_of(program: Program, bin_dir: Path, public: int, private: int) -> tuple[list[str], dict[str, str]]:
    """Return the command line, and the variables that it needs."""
    path = program.hidden.partition("?")[0]
    first, *rest = (part.format(port=public) for part in program.command)
    if first == "duallisten":
        options = ["--port", str(public), "--private-port", str(private), "--private-host", "127.0.0.1"]
        return [
            *(str(bin_dir / "duallisten"), *rest, *options),
            *("--private-path", path, "--workers", str(program.workers)),
        ], {}
    ours = {"private_port": private, "private_host": "127.0.0.1", "private_paths": [path]}
    variables = {"OPTIONS_OF_TEST": json.dumps(ours), "PORT_OF_TEST": str(public)}
    return [str(bin_dir / "python"), str(HERE / "support" / "programs" / "in_place.py"), *rest], variables


@contextmanager
def running(program: Program, home: Path, ports: tuple[int, int]) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a program in an empty folder; what it writes goes to a file."""
    bin_dir = environment_for(program, home) / "bin"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name, text in program.files.items():
            Path(folder, name).write_text(text.lstrip())
        command, variables = command_of(program, bin_dir, *ports)
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
        variables = kept | {"PATH": f"{bin_dir}:/usr/bin:/bin", "HOME": folder} | variables | program.environment
        log = Path(folder, "log.txt")
        with log.open("wb") as out:
            process = subprocess.Popen(command, cwd=folder, env=variables, stdout=out, stderr=out)
            try:
                yield process, log
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()


def status_of(port: int, program: Program, path: str) -> int:
    """Return the status that a request gets; 0 where there is no answer."""
    post = program.post.encode() if path == program.hidden and program.post else None
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"} if post else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", post, headers), timeout=10
        ) as response:
            return int(response.status)
    except urllib.error.HTTPError as exc:
        return exc.code
    except OSError:
        return 0


def wait_until_served(process: subprocess.Popen[bytes], port: int, program: Program) -> bool:
    """Wait for the program to answer; False where it ended, or took too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if status_of(port, program, program.open):
            return True
        time.sleep(0.2)
    return False


def try_out(program: Program, home: Path) -> list[str]:
    """Run a program; return what was wrong."""
    public, private = ports = free_ports()
    wrong = []
    with running(program, home, ports) as (process, log):
        if not wait_until_served(process, public, program):
            return ["does not start: " + log.read_text(errors="replace")[-3000:]]
        for name, port, path, expected in (
            ("public", public, program.open, True),
            ("private", private, program.open, True),
            ("private", private, program.hidden, True),
            ("public", public, program.hidden, False),
        ):
            status = status_of(port, program, path)
            if (200 <= status < 400) is not expected or (not expected and status != 404):
                wrong.append(f"the {name} side answers {status} for {path}")
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            wrong.append(f"it had not ended {END_SECONDS:.0f} s after SIGTERM")
        text = log.read_text(errors="replace")
        if "/site-packages/duallisten/" in text:
            wrong.insert(0, "a traceback has duallisten in it")
        if wrong:
            wrong.append(text[-3000:])
    return wrong


def versions_of(program: Program, home: Path) -> str:
    """Return the installed version of the program."""
    name = program.install[0].partition("[")[0]
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    python = environment_for(program, home) / "bin" / "python"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def table(outcomes: list[Outcome]) -> str:
    """Write the outcomes as a table."""
    lines = [
        "# Real programs with duallisten in uvicorn's place",
        "",
        f"Made by `python benchmarks/programs.py` on {time.strftime('%Y-%m-%d')}, Python {sys.version.split()[0]}.",
        "Both sides serve the open page, the hidden one is 404 on the public side and served on the private one, and",
        "SIGTERM ends all of it without a traceback that has duallisten in it.",
        "`in_place` assigns duallisten's names to uvicorn's module, for programs that start uvicorn themselves.",
        "",
        "| program | version | started by | workers | hidden | outcome |",
        "|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        program = one.program
        command = " ".join(program.command).replace("{port}", "PORT")
        outcome = "as wished" if not one.wrong else one.wrong[0].splitlines()[0]
        row = (program.name, one.versions, f"`{command}`", program.workers, f"`{program.hidden}`", outcome)
        lines.append("| " + " | ".join(str(cell) for cell in row) + " |")
    return "\n".join(lines) + "\n"


def main(names: list[str]) -> int:
    """Try the programs that are named, or all; only all of them are written down."""
    entries = tomllib.loads((HERE / "support" / "programs" / "programs.toml").read_text())
    programs = [Program(name, **entry) for name, entry in entries.items() if not names or name in names]
    home = Path(os.environ.get("PROGRAMS_HOME") or tempfile.mkdtemp(prefix="programs-"))
    outcomes = []
    for program in programs:
        outcome = Outcome(program, versions_of(program, home), try_out(program, home))
        outcomes.append(outcome)
        print(f"{program.name}: {'as wished' if not outcome.wrong else ' / '.join(outcome.wrong)}", flush=True)
    if not names:
        RESULTS.write_text(table(outcomes))
    return any(outcome.wrong for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
