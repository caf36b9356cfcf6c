from __future__ import annotations

from pathlib import Path

import pytest

from duallisten import Config, UsageError
from duallisten.config import all_options, collect
from duallisten.config.sources import Settings, find_table

OPTIONS = all_options()


def test_the_command_line_beats_the_environment_and_that_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "duallisten.toml").write_text('private-port = 1\nprivate-host = "eth1"\nside_door = "refuse"\n')
    monkeypatch.setenv("DUALLISTEN_PRIVATE_PORT", "2")
    monkeypatch.setenv("DUALLISTEN_PRIVATE_HOST", "eth2, ::1")
    settings = collect(OPTIONS, {"private_port": "3"}, tmp_path)
    assert settings.values["private_port"] == 3
    assert settings.values["private_host"] == ("eth2", "::1")
    assert settings.values["side_door"] == "refuse"
    assert settings.origins == {
        "private_port": "--private-port",
        "private_host": "$DUALLISTEN_PRIVATE_HOST",
        "side_door": "duallisten.toml, side_door",
    }


def test_uvicorn_s_options_are_read_from_all_three_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.duallisten]\napp = "shop:app"\nworkers = 2\naccess-log = false\nheader = ["X-A: 1"]\nroot-path = "/x"\n'
    )
    monkeypatch.setenv("UVICORN_ROOT_PATH", "/api")
    settings = collect(OPTIONS, {}, tmp_path)
    assert settings.values == {
        "app": "shop:app",
        "workers": 2,
        "access_log": False,
        "headers": [("X-A", " 1")],
        "root_path": "/api",
    }
    assert settings.origins["workers"] == "[tool.duallisten] in pyproject.toml, workers"


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("WEB_CONCURRENCY", "3", "workers", 3),
        ("UVICORN_RELOAD", "1", "reload", True),
        ("UVICORN_ACCESS_LOG", "false", "access_log", False),
        ("UVICORN_WS_PER_MESSAGE_DEFLATE", "no", "ws_per_message_deflate", False),
        ("UVICORN_HEADERS", "X-A:1 X-B:2", "headers", [("X-A", "1"), ("X-B", "2")]),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1", "forwarded_allow_ips", "10.0.0.1"),
        ("DUALLISTEN_PRIVATE_ROOT_PATH", "/in", "private_root_path", "/in"),
        ("DUALLISTEN_PRIVATE_HEADER", "X-A:1", "private_headers", [("X-A", "1")]),
        ("DUALLISTEN_PRIVATE_ACCESS_LOG", "0", "private_access_log", False),
    ],
)
def test_a_variable_is_read_as_uvicorn_reads_it(
    variable: str, text: str, name: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    settings = collect(OPTIONS, {}, tmp_path)
    assert settings.values == {name: value}
    assert settings.origins == {name: f"${variable}"}


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("DUALLISTEN_PRIVAT_PATH", "DUALLISTEN_PRIVATE_PATH"),
        ("DUALLISTEN_PRIVATE_PTH", "DUALLISTEN_PRIVATE_PATH"),
        ("DUALLISTEN_HIDEN_STATUS", "DUALLISTEN_HIDDEN_STATUS"),
        ("DUALLISTEN_PORT", None),
        ("DUALLISTEN_XYZZY", None),
        ("UVICORN_PRIVATE_PATHS", "DUALLISTEN_PRIVATE_PATHS"),
        ("UVICORN_PRIVATE_ROOT_PATH", "DUALLISTEN_PRIVATE_ROOT_PATH"),
    ],
)
def test_a_variable_that_no_option_has_is_refused_with_the_nearest_that_one_has(
    variable: str, meant: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a rule that is misspelt would hide nothing, and nobody would hear of it."""
    monkeypatch.setenv(variable, "8000")
    with pytest.raises(UsageError) as told:
        collect(OPTIONS, {}, tmp_path)
    assert str(told.value).startswith(f"${variable} is the variable of no option")
    assert meant is None or f"did you mean '{meant}'?" in str(told.value)


@pytest.mark.parametrize("variable", ["DUALLISTEN_PRIVATE_PATH", "DUALLISTEN_PRIVATE_PATHS"])
def test_a_list_may_be_called_by_its_plural(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "/admin")
    assert collect(OPTIONS, {}, tmp_path).values == {"private_paths": ("/admin",)}


def test_two_variables_of_one_option_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALLISTEN_PRIVATE_PATH", "/admin")
    monkeypatch.setenv("DUALLISTEN_PRIVATE_PATHS", "/internal")
    with pytest.raises(UsageError, match="are one option: keep one of them"):
        collect(OPTIONS, {}, tmp_path)


def test_what_kubernetes_tells_of_a_service_of_our_name_is_no_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT_80_TCP", "PORT_80_TCP_ADDR"):
        monkeypatch.setenv(f"DUALLISTEN_{name}", "10.0.0.1")
    monkeypatch.setenv("DUALLISTEN_PORT", "tcp://10.0.0.1:80")
    assert collect(OPTIONS, {}, tmp_path).values == {}


def test_uvicorn_s_own_variable_is_stronger_than_the_one_its_config_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    monkeypatch.setenv("UVICORN_WORKERS", "2")
    assert collect(OPTIONS, {}, tmp_path).values["workers"] == 2


def test_networks_in_a_variable_may_be_separated_by_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALLISTEN_PRIVATE_ALLOW", "10.0.0.1,10.0.0.2 10.0.0.3")
    assert len(collect(OPTIONS, {}, tmp_path).values["private_allow"]) == 3


def test_an_empty_variable_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALLISTEN_PRIVATE_PORT", "")
    assert collect(OPTIONS, {}, tmp_path).values == {}


@pytest.mark.parametrize("variable", ["WEB_CONCURRENCY", "UVICORN_WORKERS", "DUALLISTEN_PRIVATE_WORKERS"])
def test_a_number_of_workers_is_not_negative(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "-1")
    with pytest.raises(UsageError, match=rf"\${variable} -1: must be a number, 0 or more"):
        collect(OPTIONS, {}, tmp_path)


def test_no_workers_are_one_process_as_under_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Config("shop:app", log_config=None, workers=0).workers == 1
    monkeypatch.setenv("WEB_CONCURRENCY", "0")
    assert Config("shop:app", log_config=None, private_workers=2).workers == 1


def test_an_empty_number_of_workers_says_nothing_from_code_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "")
    assert Config("shop:app", log_config=None).workers == 1
    assert Config("shop:app", log_config=None, workers=3).workers == 3
    with pytest.raises(UsageError, match="workers=-1: must be a number, 0 or more"):
        Config("shop:app", log_config=None, workers=-1)


def test_our_own_file_may_have_the_table_of_pyproject_toml(tmp_path: Path) -> None:
    (tmp_path / "duallisten.toml").write_text("[tool.duallisten]\nprivate-port = 1\n")
    settings = collect(OPTIONS, {}, tmp_path)
    assert settings.values == {"private_port": 1}
    assert settings.origins == {"private_port": "[tool.duallisten] in duallisten.toml, private-port"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "port = 1\n[tool.duallisten]\nprivate-port = 1\n",
            "has 'port' and [tool.duallisten]: keep all options in one",
        ),
        ("[tool.other]\nport = 1\n", "has the table tool, but no [tool.duallisten]: write options at its top"),
        ("tool = 5\n", "has the table tool, but no [tool.duallisten]"),
        ("bind = 'x'\n", "has the unknown key 'bind': that is --host and --port here"),
    ],
)
def test_what_our_own_file_says_wrongly_is_told_with_how_to_write_it(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "duallisten.toml").write_text(text)
    with pytest.raises(UsageError) as refused:
        collect(OPTIONS, {}, tmp_path)
    assert told in str(refused.value)


def test_the_variable_that_platforms_export_is_weaker_than_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "duallisten.toml").write_text('forwarded-allow-ips = "10.0.0.1"')
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    assert collect(OPTIONS, {}, tmp_path).values == {"forwarded_allow_ips": "10.0.0.1"}
    monkeypatch.setenv("UVICORN_FORWARDED_ALLOW_IPS", "10.0.0.2")  # nobody's but a user's
    assert collect(OPTIONS, {}, tmp_path).values == {"forwarded_allow_ips": "10.0.0.2"}


def test_an_environment_file_is_read_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUALLISTEN_PRIVATE_PORT", raising=False)
    env_file = tmp_path / ".env"
    env_file.write_text("DUALLISTEN_PRIVATE_PORT=9301\n")
    monkeypatch.setenv("UVICORN_ENV_FILE", str(env_file))
    try:
        assert collect(OPTIONS, {}, tmp_path).values["private_port"] == 9301
    finally:
        monkeypatch.delenv("DUALLISTEN_PRIVATE_PORT", raising=False)


def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path: Path) -> None:
    (tmp_path / "duallisten.toml").write_text("privat_port = 1\n")
    with pytest.raises(UsageError, match=r"duallisten\.toml has the unknown key 'privat_port': did you mean 'private-"):
        collect(OPTIONS, {}, tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("private-port = 'x'", r"duallisten\.toml, private-port x: must be a port"),
        ("private-port = [1]", "must be a port"),
        ("private-network = '10.0.0.1/8'", r"did you mean 10\.0\.0\.0/8"),
        ("port = 'x'", r"port x: .*integer"),
        ("header = 'X'", "must be Name:Value"),
        ("reload-dir = 5", "must be an iterable"),
        ("port = []", "has the wrong type"),
        ("version = true", "unknown key"),
        ("private-path = 'internal'", r"duallisten\.toml, private-path internal: must begin with a slash"),
        ("strict-routes = 'perhaps'", "must be true or false"),
        ("private-path = '/a'\nprivate_paths = ['/b']", "has 'private-path' and 'private_paths', which are one option"),
        ("port = ", "cannot be read"),
    ],
)
def test_a_bad_value_in_the_file_is_named_with_its_place(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "duallisten.toml").write_text(text)
    with pytest.raises(UsageError, match=reason):
        collect(OPTIONS, {}, tmp_path)


@pytest.mark.parametrize("key", ["private-path", "private_path", "private-paths", "private_paths"])
def test_a_list_goes_by_the_flag_s_name_and_by_the_keyword_s(key: str, tmp_path: Path) -> None:
    (tmp_path / "duallisten.toml").write_text(f"{key} = ['/internal', '/-/']\nstrict-routes = true\n")
    values = collect(OPTIONS, {}, tmp_path).values
    assert (values["private_paths"], values["strict_routes"]) == (("/internal", "/-"), True)


def test_a_bad_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    with pytest.raises(UsageError, match=r"\$WEB_CONCURRENCY many: "):
        collect(OPTIONS, {}, tmp_path)


def test_a_password_is_not_repeated_in_a_message() -> None:
    def refuse(value: object) -> None:
        raise ValueError("is no good")

    option = next(option for option in OPTIONS if option.name == "ssl_keyfile_password")._replace(read=refuse)
    with pytest.raises(UsageError, match=r"^--ssl-keyfile-password \(not shown\): is no good$"):
        Settings().add(option, "s3cret", "--ssl-keyfile-password")


def test_two_files_with_options_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "duallisten.toml").write_text("")
    (tmp_path / "pyproject.toml").write_text("[tool.duallisten]\n")
    with pytest.raises(UsageError, match="keep one of them"):
        find_table(tmp_path)


def test_a_project_without_a_table_for_us_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert find_table(tmp_path)[1] == {}
    (tmp_path / "pyproject.toml").write_text("[tool]\nduallisten = 1\n")
    with pytest.raises(UsageError, match="must be a table"):
        find_table(tmp_path)
