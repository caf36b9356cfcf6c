"""The command line as a user meets it: help, completion, messages and exit codes."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import httpx
import pytest
import uvicorn
from uvicorn.config import HTTP_PROTOCOLS

from duallisten import __version__
from duallisten.cli.help import GROUPS
from duallisten.config import all_options, own_options
from duallisten.listeners.forwarded import read_trust
from tests.support.running import DUALLISTEN, FREE, PYTHON, ROOT, launched, run

DEMO = "duallisten.demo:app"
MOST_HELP_LINES = 120
"""At 100 columns."""

UVICORN_TRUSTS = str(read_trust(uvicorn.Config("app", log_config=None).forwarded_allow_ips))
"""Whom uvicorn believes by default; newer ones add ::1."""


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help_is_short_and_ours_come_first(flag: str) -> None:
    shown = run(flag)
    lines = shown.stdout.splitlines()
    assert (shown.returncode, lines[0]) == (0, "Usage: duallisten MODULE:APP [OPTIONS]")
    assert len(lines) <= MOST_HELP_LINES
    assert max(map(len, lines)) <= 100
    titles = [line.rstrip(":") for line in lines if re.fullmatch(r"[A-Z].*:", line)]
    assert [*GROUPS, "Instead of a launch"] == titles[: len(GROUPS) + 1]
    assert re.search(r"--private-port PORT .* \[default: 9240\]", shown.stdout)
    assert "$PORT, else 8000" in shown.stdout
    assert shown.stdout.count("(") == shown.stdout.count(")"), "a first sentence is cut at an abbreviation"
    assert "\x1b" not in shown.stdout


def test_every_option_of_ours_is_explained_in_one_group_of_the_help() -> None:
    named = [name for names in GROUPS.values() for name in names]
    ours = {option.name for option in own_options() if not option.twin_of}
    assert len(named) == len(set(named))
    assert ours <= set(named) <= {option.name for option in all_options()}


@pytest.mark.parametrize("columns", ["60", "80", "200"])
@pytest.mark.parametrize("flag", ["--help", "--help-all"])
def test_the_help_names_every_option_whole(flag: str, columns: str) -> None:
    words = set(re.findall(r"--[a-z0-9-]+", run(flag, environ={"COLUMNS": columns}).stdout))
    assert words >= {option.flag for option in all_options() if option.name != "app"}


def test_all_of_the_help_names_the_variables() -> None:
    shown = " ".join(run("--help-all").stdout.split())
    variables = [name for option in all_options() if option.name != "app" for name in option.variables]
    assert [name for name in variables if name not in shown] == []
    assert "[tool.duallisten]" in shown


def test_the_version_names_both_programs() -> None:
    shown = run("--version")
    assert shown.returncode == 0
    assert f"duallisten {__version__} on uvicorn " in shown.stdout


def test_the_garbage_collector_runs_when_the_application_is_imported(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import gc\nassert gc.isenabled()\nfrom duallisten.demo import app\n")
    assert run("shop:app", "--check", *FREE, cwd=tmp_path).returncode == 0


def test_the_shell_completes_options_and_their_values() -> None:
    words = {"_DUALLISTEN_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    assert "--private-port" in run(environ=words | {"COMP_WORDS": "duallisten app --private-"}).stdout.split()
    assert "--ws-max-size" in run(environ=words | {"COMP_WORDS": "duallisten app --ws-"}).stdout.split()
    words["COMP_CWORD"] = "3"
    assert run(environ=words | {"COMP_WORDS": "duallisten app --side-door "}).stdout.split() == ["serve", "refuse"]


def test_the_plan_is_shown_and_nothing_is_started(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("async def app(scope, receive, send):\n    raise SystemExit('it was started')\n")
    shown = run(
        "shop:app",
        "--check",
        "--private-port",
        "0",
        environ={"PORT": "5000", "DUALLISTEN_PRIVATE_MISSING": "loopback"},
        cwd=tmp_path,
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    for text in ("0.0.0.0:5000", "127.0.0.1:0", "127.0.0.0/8, ::1", "$PORT", "$DUALLISTEN_PRIVATE_MISSING", "shop:app"):
        assert text in shown.stdout


def test_the_plan_shows_the_endpoint_set_of_each_side() -> None:
    rules = ("--private-path", "/internal", "--public-path", "/shop", "--public-path", "/docs")
    report = json.loads(run(DEMO, "--check", "--json", *FREE, *rules).stdout)
    assert [listener["endpoint_set"] for listener in report["listeners"]] == ["all", "only /shop, /docs, not /internal"]
    values = {value["option"]: (value["value"], value["origin"]) for value in report["values"]}
    assert values["private_paths"] == (["/internal"], "--private-path")


def test_the_plan_is_shown_for_machines() -> None:
    shown = run(DEMO, "--check", "--json", "--private-port", "0", "--port", "0", "--ssl-keyfile-password", "s3cret")
    report = json.loads(shown.stdout)
    assert [listener["side"] for listener in report["listeners"]] == ["private", "public"]
    assert report["listeners"][0]["peers_admitted"] == "127.0.0.0/8, ::1"
    assert report["listeners"][0]["proxies_trusted"] == "none"
    assert report["listeners"][1]["proxies_trusted"] == UVICORN_TRUSTS
    values = {value["option"]: (value["value"], value["origin"]) for value in report["values"]}
    assert values["private_port"] == (0, "--private-port")
    assert "s3cret" not in shown.stdout


def table_of(text: str) -> dict[str, list[str]]:
    """The rows of printed tables by their first cell."""
    lines = [line for line in text.splitlines() if line.startswith("│")]
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return {row[0]: row[1:] for row in rows}


LONG = [f"/a/very/long/path/that/no/terminal/has/room/for/{number:030d}" for number in range(3)]


def test_nothing_that_was_asked_for_is_cut_where_there_is_no_terminal() -> None:
    rules = [word for path in LONG for word in ("--private-path", path)]
    shown = run(DEMO, "--check", *FREE, *rules, environ={"COLUMNS": "80"})
    assert table_of(shown.stdout)["--private-path"] == [", ".join(LONG), "--private-path"]
    assert table_of(shown.stdout)["endpoint set"] == ["all", f"not {', '.join(LONG)}"]


def test_a_terminal_folds_what_is_too_wide_for_it() -> None:
    rules = [word for path in LONG for word in ("--private-path", path)]
    code = f"import pty, sys; sys.exit(pty.spawn({[*DUALLISTEN, DEMO, '--check', *FREE, *rules]!r}))"
    shown = run("-c", code, command=PYTHON, environ={"COLUMNS": "80", "TERM": "dumb"})
    assert "…" not in shown.stdout
    cells = [line.split("│")[2].strip() for line in shown.stdout.splitlines() if line.count("│") == 4]
    assert ",".join(LONG) in "".join(cells).replace(" ", "")
    assert max(len(line.strip()) for line in shown.stdout.splitlines() if "│" in line) <= 80


def test_the_plan_is_counted_in_whole_words() -> None:
    assert run(DEMO, "--check", *FREE).stdout.startswith("duallisten.demo:app with 1 worker; platform: none; fence: ")
    assert run(DEMO, "--check", "--workers", "2", *FREE).stdout.startswith("duallisten.demo:app with 2 workers; ")


def test_a_machine_reads_numbers_and_booleans_as_such() -> None:
    report = json.loads(
        run(DEMO, "--check", "--json", *FREE, "--private-workers", "2", "--no-access-log", "--private-http2").stdout
    )
    listeners = [(one["tls"], one["http2"], one["workers"]) for one in report["listeners"]]
    assert listeners == [(False, True, 2), (False, False, 1)]
    values = {value["option"]: value["value"] for value in report["values"]}
    assert (values["access_log"], values["private_workers"]) == (False, 2)
    assert report["error"] is None


def test_a_check_that_fails_shows_how_far_the_launch_would_come(tmp_path: Path) -> None:
    failed = run("nowhere:app", "--check", *FREE)
    assert table_of(failed.stdout)["peers admitted"] == ["127.0.0.0/8, ::1", "all"]
    assert "endpoint set" not in failed.stdout
    without = run(DEMO, "--check", "--private-missing", "fail", *FREE)
    assert table_of(without.stdout)["--private-missing"] == ["fail", "--private-missing"]
    told = run(DEMO, "--check", "--json", "--private-missing", "fail", *FREE)
    report = json.loads(told.stdout)
    assert (told.returncode, report["listeners"]) == (3, [])
    assert told.stderr == f"duallisten: {report['error']}\n"


def test_a_check_says_that_it_waits_for_an_address() -> None:
    shown = run(DEMO, "--check", "--private-missing", "fail", "--private-wait", "0.1", *FREE)
    assert "Waiting up to 0.1 s for a private address\n" in shown.stderr


IDLE = {
    ("--health-stall", "3"): "--health-stall does nothing without --private-health",
    ("--service", "billing"): "--service does nothing without --register",
    ("--preload",): "--preload does nothing without several workers",
    ("--limit-worker-age", "1"): "--limit-worker-age does nothing without several workers",
    ("--timeout-worker-stall", "9"): "--timeout-worker-stall does nothing without several workers",
    ("--hidden-status", "403"): "--hidden-status does nothing without --private-path or --public-path",
    ("--reload-delay", "1"): "--reload-delay does nothing without --reload",
    ("--private-ssl-ca-certs", "ca.pem"): "--private-ssl-ca-certs does nothing without --private-ssl-certfile",
    ("--private-allow", "::/0"): "--private-allow ::/0 admits every IPv6 peer to the private side",
    ("--private-allow", "::ffff:0:0/96"): "--private-allow 0.0.0.0/0 admits every IPv4 peer to the private side",
}


@pytest.mark.parametrize("arguments", IDLE, ids=" ".join)
def test_an_option_that_does_nothing_or_too_much_is_warned_of(arguments: tuple[str, ...]) -> None:
    assert any(note.startswith(IDLE[arguments]) for note in notes(*arguments))
    with launched(DEMO, *FREE, *arguments) as server:
        server.url("public")
        assert server.output.count(IDLE[arguments]) == 1


def test_an_option_that_does_something_is_not_warned_of() -> None:
    asked = (
        "--health-stall",
        "3",
        "--private-health",
        "/-",
        "--preload",
        "--workers",
        "2",
        "--private-allow",
        "10.0.0.0/8",
    )
    assert len(notes(*asked)) == len(notes("--no-preload")) == 1  # the private address, which is loopback here


def notes(*arguments: str) -> list[str]:
    told: list[str] = json.loads(run(DEMO, "--check", "--json", *FREE, *arguments).stdout)["notes"]
    return told


def test_a_host_and_a_port_are_no_sign_of_a_platform() -> None:
    shown = run(DEMO, "--check", "--host", "0.0.0.0", "--port", "0", "--private-port", "0")
    assert (shown.returncode, table_of(shown.stdout)["address"]) == (0, ["127.0.0.1:0", "0.0.0.0:0"])


@pytest.mark.parametrize("code", ["from duallisten.__main__ import main; main()", "from duallisten import run"])
def test_windows_is_told_in_one_line(code: str) -> None:
    ended = run("-c", f"import sys; sys.platform = 'win32'; {code}", command=PYTHON)
    assert ended.returncode in (1, 3)
    assert ended.stderr.splitlines()[-1].endswith("on Windows: duallisten serves on Linux and macOS")


def test_the_help_says_what_separates_a_list_in_a_variable() -> None:
    assert "separated by commas or spaces, not by colons" in re.sub(r"\s+", " ", run("--help").stdout)


@pytest.mark.parametrize(
    "code",
    ["duallisten.Server(config).run()", "duallisten.run(**options)", "duallisten.testing.serve(**options).__enter__()"],
)
def test_a_loop_that_is_not_there_leaves_no_coroutine_behind_from_code_either(code: str) -> None:
    """Or Python would complain of one that was never awaited, beside the line that tells what is wrong."""
    options = {"app": DEMO, "loop": "trio", "port": 0, "private_port": 0}
    if "testing" in code:
        del options["port"], options["private_port"]
    before = f"import duallisten, duallisten.testing; options = {options}; config = duallisten.Config(**options); "
    ended = run("-c", before + code, command=PYTHON)
    assert ended.returncode != 0
    assert "--loop trio cannot be used" in ended.stderr
    assert "never awaited" not in ended.stderr


def test_a_check_fails_as_the_launch_would() -> None:
    for arguments in (["nowhere:app"], [DEMO, "--private-host", "0.0.0.0"]):
        checked, started = run(*arguments, "--check", *FREE), run(*arguments, *FREE)
        assert (checked.returncode, checked.stderr) == (started.returncode, started.stderr)
        assert checked.returncode == 3


BAD_USAGE = [
    ((), {}, "no application given"),
    ((DEMO, "--privat-port", "1"), {}, "--private-port"),
    ((DEMO, "--private-port"), {}, "--private-port"),
    ((DEMO, "--private-port", "http"), {}, "--private-port http: must be a port"),
    ((DEMO, "--port", "http"), {}, "--port http: "),
    ((DEMO, "--private-network", "10.240.0.5/22"), {}, "did you mean 10.240.0.0/22?"),
    ((DEMO, "--private-network", "ten"), {}, "--private-network ten: is not a network"),
    ((DEMO, "--private-allow", "10.240.0.0/99"), {}, "--private-allow"),
    ((DEMO, "--private-wait", "soon"), {}, "--private-wait soon"),
    ((DEMO, "--side-door", "open"), {}, "refuse"),
    ((DEMO, "--platform", "scaligno"), {}, "did you mean 'scalingo'?"),
    ((DEMO, "--header", "X"), {}, "--header X: must be Name:Value"),
    ((DEMO, "--log-level", "loud"), {}, "loud"),
    ((DEMO, "--env-file", "nowhere.env"), {}, "--env-file nowhere.env"),
    ((DEMO, "--json"), {}, "--json needs --check or --routes"),
    ((DEMO, "--check", "--routes"), {}, "--check and --routes cannot be combined"),
    ((DEMO, "--private-path", "internal"), {}, "--private-path internal: must begin with a slash: /internal"),
    ((DEMO, "--private-path", ""), {}, "--private-path : must be a path, such as /internal"),
    ((DEMO, "--private-path", "/a", "--private-path", "/b?c"), {}, "--private-path /a /b?c: must not contain '?'"),
    ((DEMO, "--public-path", "/a#b"), {}, "--public-path /a#b: must not contain '#'"),
    ((DEMO, "--public-path", "/a/../b"), {}, "--public-path /a/../b: must be in normal form"),
    ((DEMO, "--private-path", "/internal/*"), {}, "a rule is a prefix, not a pattern"),
    (
        (DEMO, "--private-path", "/internal", "--public-path", "/internal/x"),
        {},
        "--public-path /internal/x lies inside --private-path /internal, so it could never be served",
    ),
    ((DEMO, "--public-path", "/A/x"), {"DUALLISTEN_PRIVATE_PATH": "/b,/a"}, "--public-path /A/x lies inside"),
    ((DEMO, "--hidden-status", "500"), {}, "500"),
    ((DEMO,), {"DUALLISTEN_HIDDEN_STATUS": "500"}, "$DUALLISTEN_HIDDEN_STATUS 500: must be 404 or 403"),
    ((DEMO,), {"DUALLISTEN_STRICT_ROUTES": "maybe"}, "$DUALLISTEN_STRICT_ROUTES maybe: must be true or false"),
    ((DEMO, "more"), {}, "only one application can be served; unexpected: more; see duallisten --help"),
    (("run", DEMO), {}, f"unexpected: {DEMO}; see"),
    ((DEMO, "--port"), {}, "requires an argument; see duallisten --help"),
    ((DEMO, "--private-network", "10.0.0.0/8,172.16.0.0/12"), {}, "is several networks: give each by itself"),
    ((DEMO, "--private-host", "auto,127.0.0.1"), {}, "is several hosts: give each by itself"),
    ((DEMO,), {"PORT": "http"}, "$PORT is 'http'"),
    ((DEMO,), {"DUALLISTEN_PRIVATE_PORT": "x"}, "$DUALLISTEN_PRIVATE_PORT x: must be a port"),
    ((DEMO,), {"WEB_CONCURRENCY": "many"}, "$WEB_CONCURRENCY many"),
    ((DEMO,), {"WEB_CONCURRENCY": "-1"}, "$WEB_CONCURRENCY -1: must be a number, 0 or more"),
    ((DEMO, "--workers", "-1"), {}, "--workers -1: must be a number, 0 or more"),
    ((DEMO, "--backlog=-1"), {}, "--backlog -1: must be a number, 0 or more"),
    ((DEMO, "--port", "99999"), {}, "--port 99999: must be a port"),
    ((DEMO, "--port", "1", "--port=2"), {}, "--port is given twice, as 1 and as 2: keep one of them"),
    ((DEMO, "--bogus"), {}, "there is no option --bogus; see duallisten --help"),
    ((DEMO, "-b", "0.0.0.0:80"), {}, "there is no option -b: that is --host and --port here"),
    ((DEMO, "--app-dir", "/nowhere/at/all"), {}, "--app-dir /nowhere/at/all: there is no such folder"),
    ((DEMO,), {"UVICORN_APP_DIR": "/nowhere/at/all"}, "$UVICORN_APP_DIR /nowhere/at/all: there is no such folder"),
]


@pytest.mark.parametrize(("arguments", "variables", "told"), BAD_USAGE, ids=lambda value: str(value)[:40])
def test_what_cannot_be_read_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], variables: dict[str, str], told: str
) -> None:
    ended = run(*arguments, environ=variables)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert ended.stderr.startswith("duallisten: ")
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""


NO_ZTTP = "--http zttp cannot be " + ("used: No module named 'zttp'" if "zttp" in HTTP_PROTOCOLS else "imported")
"""uvicorn knows zttp in its newer versions alone."""


SCALINGO = {"SCALINGO_APPLICATION_ID": "ap-1"}
BAD_LAUNCH = [
    (
        ("nowhere:app",),
        {},
        "'nowhere:app' cannot be imported: Could not import module \"nowhere\"; is it in the current folder?",
    ),
    (("duallisten.demo:nothing",), {}, "nothing"),
    (("duallisten.demo:ap",), {}, 'Attribute "ap" not found in module "duallisten.demo": did you mean \'app\'?'),
    (("duallisten.demo",), {}, "it must be MODULE:ATTRIBUTE, such as duallisten.demo:app"),
    (("./shop:app",), {}, "names a file; name the module: shop:app"),
    (("src/shop.py",), {}, "name the module: shop:app --app-dir src"),
    (
        (DEMO, "--private-network", "10.240.0.0/22"),
        {"PORT": "0"},
        "no address in 10.240.0.0/22; found lo 127.0.0.1",
    ),
    (
        (DEMO, "--private-network", "10.240.0.0/22"),
        {"PORT": "0"},
        "PORT is set, as on a platform, where a private address is required: on your own machine, ",
    ),
    ((DEMO, "--private-network", "10.240.0.0/22"), {"PORT": "0"}, "--private-missing loopback"),
    ((DEMO, "--private-missing", "fail"), {}, "no private network is known; found lo 127.0.0.1"),
    ((DEMO, "--private-host", "0.0.0.0"), {}, "--private-host 0.0.0.0 would listen on every interface"),
    ((DEMO, "--private-host", "192.0.2.77"), {}, "--private-host 192.0.2.77 is not an address of this host"),
    ((DEMO, "--private-host", "nowhere.invalid"), {}, "--private-host nowhere.invalid"),
    ((DEMO, "--port", "9240"), {}, "both listeners have the same address"),
    ((DEMO, "--host", "nowhere.invalid"), {}, "--host nowhere.invalid"),
    ((DEMO, "--http", "nowhere:Protocol"), {}, "nowhere"),
    ((DEMO, "--loop", "nowhere:loop"), {}, "nowhere"),
    ((DEMO, "--loop", "trio"), {}, "--loop trio cannot be used: "),
    ((DEMO, "--loop", "trio", "--workers", "2"), {}, "--loop trio cannot be used: "),
    ((DEMO, "--loop", "os:path"), {}, "--loop os:path is not a factory of an event loop"),
    ((DEMO, "--loop", "uvloop"), {"PYTHONPATH": "BROKEN"}, "--loop uvloop cannot be used: No module named 'uvloop'"),
    ((DEMO, "--http", "zttp"), {"PYTHONPATH": "BROKEN"}, NO_ZTTP),
    ((DEMO, "--ws", "wsproto"), {"PYTHONPATH": "BROKEN"}, "--ws wsproto cannot be used: No module named 'wsproto'"),
    ((DEMO, "--ws", "wsprot"), {}, "--ws wsprot cannot be imported"),
    ((DEMO, "--http", "h12"), {}, "; or give one of auto, h11, httptools"),
    ((DEMO, "--ssl-keyfile", "key.pem"), {}, "TLS of the public listener"),
    ((DEMO, "--private-ssl-certfile", "nowhere.pem"), {}, "--private-ssl-certfile nowhere.pem"),
    ((DEMO,), SCALINGO | {"CONTAINER": "web-1"}, "PORT is not set"),
    ((DEMO,), SCALINGO | {"CONTAINER": "postdeploy-1"}, "postdeploy"),
    ((DEMO, "--private-wait", "0"), SCALINGO | {"CONTAINER": "api-1"}, "is in no private network"),
]


@pytest.mark.parametrize(("arguments", "variables", "told"), BAD_LAUNCH, ids=lambda value: str(value)[:40])
def test_what_cannot_be_carried_out_is_one_line_and_exit_code_3_and_a_check_says_so(
    arguments: tuple[str, ...], variables: dict[str, str], told: str, tmp_path: Path
) -> None:
    for name in ("uvloop", "zttp", "wsproto"):  # as if they were not installed
        (tmp_path / f"{name}.py").write_text(
            f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')\n"
        )
    variables = {name: f"{tmp_path}:{ROOT}" if text == "BROKEN" else text for name, text in variables.items()}
    ports = () if "--port" in arguments else ("--port", "0")
    line = [*arguments, *(() if "PORT" in variables or "CONTAINER" in variables else ports)]
    for ended in (run(*line, environ=variables), run(*line, "--check", environ=variables)):
        told_lines = [line for line in ended.stderr.splitlines() if line.startswith("duallisten: ")]
        assert ended.returncode == 3
        assert len(told_lines) == 1
        assert told in told_lines[0]
        assert "Traceback" not in ended.stderr and "never awaited" not in ended.stderr


@pytest.mark.parametrize("side", ["public", "private"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_told_with_its_side_and_costs_no_start_up(side: str, workers: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("print('it was imported')\napp = None\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = ("--port", port, "--private-port", "0") if side == "public" else ("--port", "0", "--private-port", port)
        ended = run("shop:app", "--workers", workers, *ports, cwd=tmp_path)
    assert ended.returncode == 3
    assert ended.stderr.startswith(
        f"duallisten: cannot bind the {side} listener to 127.0.0.1:{port}: Address already in"
    )
    assert "it was imported" not in ended.stdout


BROKEN_MODULES = {
    "syntax": ("import json\nx = (\n", "SyntaxError: '(' was never closed", 2),
    "raises": ("1 / 0\n", "ZeroDivisionError: division by zero", 1),
    "imports": ("import nowhere_to_be_found\n", "No module named 'nowhere_to_be_found'", 1),
    "library": (
        "import json\n\n\ndef read():\n    return json.loads('{')\n\n\nread()\n",
        "JSONDecodeError: Expecting",
        5,
    ),
}


@pytest.mark.parametrize("kind", BROKEN_MODULES)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_application_that_cannot_be_imported_is_told_by_the_last_line_of_its_code(
    kind: str, workers: str, tmp_path: Path
) -> None:
    text, told, number = BROKEN_MODULES[kind]
    (tmp_path / "shop.py").write_text(text)
    ended = run("shop:app", "--workers", workers, *FREE, cwd=tmp_path)
    assert ended.returncode == 3
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("duallisten: ")]
    assert line.startswith("duallisten: 'shop:app' cannot be imported: ")
    assert told in line
    assert line.endswith(f"({tmp_path}/shop.py:{number})")
    before = ended.stderr.partition("duallisten: ")[0]
    assert "The application raised an exception" in before and told in before
    assert "duallisten/" not in before and "importlib" not in before, "whoever reads it looks for their own code"


NO_APPLICATIONS = {
    ("number",): "'shop:number' is not an ASGI application but an object of type int",
    ("nothing",): "'shop:nothing' is not an ASGI application but None",
    ("app", "--factory"): "leave out --factory if it is the application itself",
    (
        "make",
        "--factory",
    ): "the factory 'shop:make' has made an object of type coroutine, which is not an ASGI application",
    ("fail", "--factory"): "the factory 'shop:fail' has failed: KeyError: 'settings' ",
    ("fail",): "shop:fail cannot be loaded: KeyError: 'settings' ",
    ("app", "--private-app", "shop:number"): "'shop:number' is not an ASGI application",
}
SHOP = """
number, nothing = 5, None
async def app(scope, receive, send): ...
async def make(): return app
def fail(): raise KeyError("settings")
"""


@pytest.mark.parametrize("arguments", NO_APPLICATIONS, ids=" ".join)
def test_what_is_no_application_is_told_and_not_served(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    named = (f"shop:{arguments[0]}", *arguments[1:])
    for ended in (run(*named, *FREE, cwd=tmp_path), run(*named, *FREE, "--check", cwd=tmp_path)):
        assert ended.returncode == 3
        (line,) = [line for line in ended.stderr.splitlines() if line.startswith("duallisten: ")]
        assert NO_APPLICATIONS[arguments] in line
        assert "config/" not in line and "never awaited" not in ended.stderr


FAILING_START = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_failed_start_of_the_application_opens_nothing(workers: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(FAILING_START)
    ended = run("shop:app", "--workers", workers, *FREE, cwd=tmp_path)
    assert ended.returncode == 3
    assert "no database" in ended.stderr
    assert "duallisten: the application failed to start" in ended.stderr
    assert "Serving" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_application_factory_that_raises_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("def make():\n    raise RuntimeError('no settings')\n")
    ended = run("shop:make", "--factory", *FREE, cwd=tmp_path)
    assert ended.returncode == 3
    assert f"RuntimeError: no settings ({tmp_path}/shop.py:2)" in ended.stderr
    assert ended.stderr.count("duallisten: ") == 1


@pytest.mark.parametrize("text", ["{", "{}", '{"version": 1, "handlers": {"x": {"class": "nowhere.Handler"}}}'])
def test_a_logging_configuration_that_is_none_is_told_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "logging.json").write_text(text)
    ended = run(DEMO, "--log-config", "logging.json", *FREE, cwd=tmp_path)
    assert ended.returncode == 3
    assert ended.stderr.startswith("duallisten: --log-config logging.json: ")
    assert ended.stderr.count("\n") == 1


def test_it_serves_what_the_file_names(tmp_path: Path) -> None:
    (tmp_path / "duallisten.toml").write_text('app = "duallisten.demo:app"\nport = 0\nprivate-port = 0\n')
    with launched(cwd=tmp_path) as server:
        assert httpx.get(server.url("private")).json()["side"] == "private"
        assert httpx.get(server.url("public")).json()["side"] == "public"


def test_the_application_is_found_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "shop.py").write_text("from duallisten.demo import app\n")
    with launched("shop:app", "--app-dir", "code", *FREE, cwd=tmp_path) as server:
        assert httpx.get(server.url("public")).json()["side"] == "public"
