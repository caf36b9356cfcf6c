"""The application's own metrics, of one process and of several, and their files; and a real Prometheus that scrapes."""

from __future__ import annotations

import inspect
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client import metrics, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from duallisten.admin import metrics_multiprocess as metric_files
from tests.support.running import DEADLINE, FREE, Launched, ask, connect, eventually, launched, processes, run
from tests.support.scraping import Scrape

SHOP = """
import os
from prometheus_client import Counter, Gauge, Histogram
from duallisten.demo import app as demo

SOLD = Counter("shop_sold", "Apples.", ["colour"])
WEIGHT = Histogram("shop_weight_grams", "Of apples.", buckets=[1, 2])
WORKERS = Gauge("shop_workers", "Those that live.", multiprocess_mode="livesum")
THEIRS = Gauge("duallisten_workers", "Not the application's to tell.")
SOLD.labels("green")  # is opened before a template forks

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        WORKERS.set(1)
    if scope["type"] == "http":
        SOLD.labels("green").inc()
        WEIGHT.observe(1.5)
    await demo(scope, receive, send)
"""

METRICS = ("--private-metrics", "/metrics", "--no-access-log", *FREE)
REQUESTS = "duallisten_http_requests_total{method=GET,side=public,status=2xx}"


@contextmanager
def shop(folder: Path, *arguments: str, text: str = SHOP, **environ: str) -> Iterator[Launched]:
    """Serve an application that has metrics; what it makes for temporary files is in `folder/tmp`."""
    (folder / "shop.py").write_text(text)
    (folder / "tmp").mkdir(exist_ok=True)
    environ = {"TMPDIR": str(folder / "tmp")} | environ
    with launched("shop:app", *METRICS, *arguments, cwd=folder, environ=environ) as server:
        server.url("public")
        yield server


def directories(folder: Path) -> list[Path]:
    return sorted((folder / "tmp").glob(f"{metric_files.PREFIX}*"))


def test_one_process_tells_of_its_default_registry_and_needs_no_files(tmp_path: Path) -> None:
    with shop(tmp_path) as server:
        for _ in range(3):
            httpx.get(server.url("public"))
        scrape = Scrape(server.url("private"))
        assert scrape["shop_sold_total{colour=green}"] == scrape["shop_weight_grams_count"] == 3
        assert scrape["process_resident_memory_bytes"] > 0
        assert [family.name for family in scrape.families].count("duallisten_workers") == 1
        assert sum(scrape.named("duallisten_workers").values()) == 1
        assert Scrape(server.url("private"), "application/openmetrics-text")["shop_sold_total{colour=green}"] == 3
        server.wait_for("The application's metric duallisten_workers is missing")
        assert server.output.count("is missing from the metrics page") == 1
        assert directories(tmp_path) == []


def test_a_collector_that_fails_takes_only_the_application_s_metrics_with_it(tmp_path: Path) -> None:
    text = SHOP + (
        "from prometheus_client import REGISTRY\n"
        "class Broken:\n"
        "    def describe(self): return []\n"
        "    def collect(self): raise RuntimeError('no database')\n"
        "REGISTRY.register(Broken())\n"
    )
    with shop(tmp_path, text=text) as server:
        httpx.get(server.url("public"))
        assert eventually(lambda: Scrape(server.url("private"))[REQUESTS] == 1)
        scrape = Scrape(server.url("private"))
        assert not any(key.startswith("shop_") for key in scrape)
        server.wait_for("The application's metrics are missing from the metrics page: a collector raised .*no database")


def test_a_collector_that_hangs_keeps_neither_requests_nor_the_end(tmp_path: Path) -> None:
    text = SHOP + (
        "import pathlib, time\n"
        "from prometheus_client import REGISTRY\n"
        "class Hanging:\n"
        "    def describe(self): return []\n"
        "    def collect(self):\n"
        "        pathlib.Path('asked').touch()\n"
        "        time.sleep(600)\n"
        "REGISTRY.register(Hanging())\n"
    )
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    arguments = ("--timeout-graceful-shutdown", "1")
    with shop(tmp_path, *arguments, text=text) as server, connect(server.url("private")) as scraper:
        scraper.sendall(request)
        assert eventually((tmp_path / "asked").exists)
        assert b"200 OK" in ask(server.url("private"))
        assert server.end() == 0


@pytest.mark.parametrize("way", [(), ("--preload",), ("--private-workers", "1")])
def test_whichever_worker_is_scraped_tells_of_all_also_of_those_that_died(tmp_path: Path, way: tuple[str, ...]) -> None:
    with shop(tmp_path, "--workers", "2", *way) as server:
        public, private = server.url("public"), server.url("private")
        count = 3 if "--private-workers" in way else 2
        answered = 0
        while len(pids := processes(public, 4)) < 2 or answered < 20:
            answered += 4
        answered += 4

        def told(scrape: Scrape) -> tuple[float, float, float]:
            sold = scrape["shop_sold_total{colour=green}"], scrape["shop_weight_grams_bucket{le=2.0}"]
            return scrape[REQUESTS], *sold

        assert eventually(lambda: Scrape(private).named("duallisten_workers") == {"{state=ready}": count})
        assert eventually(lambda: Scrape(private)[REQUESTS] == answered)  # with the next heartbeat
        for _ in range(6):
            scrape = Scrape(private)
            assert told(scrape) == (answered,) * 3
            assert scrape["shop_workers"] == count
        (directory,) = directories(tmp_path)
        before = {file.name for file in directory.iterdir()}
        os.kill(victim := min(pids), signal.SIGKILL)
        server.wait_for(rf"Worker \[{victim}\] was killed")
        assert told(Scrape(private)) == (answered,) * 3, "what a dead process has counted stays"
        server.wait_for("Application startup complete", count=count + 1)
        assert eventually(lambda: Scrape(private).named("duallisten_workers") == {"{state=ready}": count})
        scrape = Scrape(private)
        assert told(scrape) == (answered,) * 3
        assert scrape["duallisten_worker_restarts_total"] == 1
        assert scrape["shop_workers"] == count
        processes(public, 4)
        assert eventually(lambda: told(Scrape(private)) == (answered + 4,) * 3)
        assert {file.name for file in directory.iterdir()} == before, "a successor goes on with its files"
        assert server.end() == 0
    assert directories(tmp_path) == []


def test_a_worker_that_is_taken_away_leaves_its_counts_and_takes_its_live_gauges_with_it(tmp_path: Path) -> None:
    with shop(tmp_path, "--workers", "2") as server:
        private, answered = server.url("private"), 20
        processes(server.url("public"), answered)
        assert eventually(lambda: Scrape(private)[REQUESTS] == answered)
        server.send(signal.SIGTTOU)
        server.wait_for("Finished server process")
        assert eventually(lambda: Scrape(private)["shop_workers"] == 1)
        scrape = Scrape(private)
        assert (scrape[REQUESTS], scrape["shop_sold_total{colour=green}"]) == (answered, answered)
        assert scrape["duallisten_worker_restarts_total"] == 0


def test_a_template_that_is_replaced_leaves_no_live_gauge_behind(tmp_path: Path) -> None:
    text = SHOP + "WORKERS.set(100)\n"
    with shop(tmp_path, "--workers", "2", "--preload", text=text) as server:
        private = server.url("private")
        assert Scrape(private)["shop_workers"] == 102
        server.send(signal.SIGHUP)
        server.wait_for("Finished server process", count=2)
        assert eventually(lambda: Scrape(private)["shop_workers"] == 102)


def test_a_directory_that_the_user_names_is_emptied_of_metrics_at_launch_and_stays(tmp_path: Path) -> None:
    named = tmp_path / "mine" / "metrics"
    for arguments in (("--workers", "2"), ()):
        with shop(tmp_path, *arguments, PROMETHEUS_MULTIPROC_DIR=str(named)) as server:
            processes(server.url("public"), 4)
            assert Scrape(server.url("private"))["shop_sold_total{colour=green}"] == 4, "not those of the last launch"
            assert list(named.glob("counter_*.db"))
            (named / "notes.txt").touch()
        assert (named / "notes.txt").exists()
        assert directories(tmp_path) == []


def test_a_directory_that_cannot_be_used_stops_the_launch_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "file")}
    ended = run("duallisten.demo:app", *METRICS, "--workers", "2", environ=environ)
    assert ended.returncode == 3
    assert ended.stderr == f"duallisten: $PROMETHEUS_MULTIPROC_DIR {tmp_path}/file cannot be used: File exists\n"


def test_without_metrics_the_user_s_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "counter_1.db").touch()
    arguments = ("duallisten.demo:app", "--workers", "2", *FREE)
    with launched(*arguments, environ={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}) as server:
        server.url("public")
    assert (tmp_path / "counter_1.db").exists()


def test_what_a_killed_supervisor_leaves_behind_is_removed_by_the_next_launch(tmp_path: Path) -> None:
    with shop(tmp_path, "--workers", "2") as server, shop(tmp_path, "--workers", "2") as neighbour:
        first, second = directories(tmp_path)
        workers = psutil.Process(server.process.pid).children(recursive=True)
        server.end(signal.SIGKILL)
        assert psutil.wait_procs(workers, timeout=DEADLINE)[1] == []
        assert directories(tmp_path) == [first, second]
        with shop(tmp_path, "--workers", "2") as third:
            assert len(directories(tmp_path)) == 2
            for one in (neighbour, third):
                httpx.get(one.url("public"))
                assert Scrape(one.url("private"))["shop_sold_total{colour=green}"] == 1
    assert directories(tmp_path) == []


def test_nothing_but_an_own_directory_of_ours_is_swept(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / f"{metric_files.PREFIX}link").symlink_to(kept)
    (tmp_path / f"{metric_files.PREFIX}file").touch()
    (tmp_path / f"{metric_files.PREFIX}left").mkdir()
    held = tmp_path / f"{metric_files.PREFIX}held"
    held.mkdir()
    lock = metric_files._open(held)
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_SH)
        metric_files._sweep(tmp_path)
    finally:
        os.close(lock)
    assert {path.name.rpartition("-")[2] for path in tmp_path.iterdir()} == {"kept", "link", "file", "held"}


def test_a_program_s_environment_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv(metric_files.VARIABLE, raising=False)
    with metric_files.shared_directory(several=True):
        made = Path(os.environ[metric_files.VARIABLE])
        assert (made.parent, made.stat().st_mode & 0o777) == (tmp_path, 0o700)
    assert metric_files.VARIABLE not in os.environ
    assert not made.exists()


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """Run a Prometheus that scrapes `target` each second, and give its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own = f"127.0.0.1:{free.getsockname()[1]}"
    scrape: dict[str, Any] = {"job_name": "shop", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scrape]}))  # JSON is YAML
    paths = ("--config.file", str(folder / "prometheus.yml"), "--storage.tsdb.path", str(folder / "data"))
    with launched(*paths, "--web.listen-address", own, command=("prometheus",)) as running:
        running.wait_for("Server is ready to receive web requests")
        yield f"http://{own}"


def query(url: str, expression: str) -> dict[str, float]:
    """Ask Prometheus: the value of each series by its labels, without those of the target."""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": expression}, timeout=DEADLINE).json()
    assert answer["status"] == "success", answer
    found = {}
    for one in answer["data"]["result"]:
        labels = {key: value for key, value in one["metric"].items() if key not in ("__name__", "instance", "job")}
        found[",".join(f"{key}={value}" for key, value in sorted(labels.items()))] = float(one["value"][1])
    return found


@pytest.mark.needs_prometheus
def test_prometheus_scrapes_several_workers_and_sees_one_launch(tmp_path: Path) -> None:
    with shop(tmp_path, "--workers", "2") as server:
        public = server.url("public")
        with prometheus(tmp_path, server.url("private").removeprefix("http://")) as url:
            processes(public, 12)
            counted = "duallisten_http_requests_total{side='public'} > 0"
            expected = {"method=GET,side=public,status=2xx": 12.0}
            assert eventually(lambda: query(url, counted) == expected), query(url, counted)
            assert query(url, "shop_sold_total") == {"colour=green": 12}
            assert eventually(lambda: query(url, "duallisten_workers{state='ready'}") == {"state=ready": 2})
            assert query(url, "up") == {"": 1}
            quantile = "histogram_quantile(0.9, duallisten_http_request_duration_seconds_bucket{side='public'})"
            assert 0 < query(url, quantile)["side=public"] <= 10
            os.kill(min(processes(public)), signal.SIGKILL)
            assert eventually(lambda: query(url, "duallisten_worker_restarts_total") == {"": 1})
            assert query(url, "resets(duallisten_http_requests_total{side='public',status='2xx'}[1m]) > 0") == {}
            assert query(url, "resets(shop_sold_total[1m])") == {"colour=green": 0}
        text = httpx.get(server.url("private") + "/metrics").text
    done = run("check", "metrics", command=("promtool",), text=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_package_names_files_as_it_is_told_and_notices_when_that_changes() -> None:
    """What `metric_files` leans on of the insides of prometheus_client."""
    assert "values.ValueClass(" in inspect.getsource(metrics), "looked up when a metric is made"
    source = inspect.getsource(values.MultiProcessValue)
    assert list(inspect.signature(values.MultiProcessValue).parameters) == ["process_identifier"]
    for method in ("__init__", "inc", "set", "get"):
        assert "self.__check_for_pid_change()" in source.partition(f"def {method}(")[2].partition("def ")[0], method
    assert "self._value, self._timestamp = self._file.read_value(self._key)" in source, "a file is gone on with"
    assert "'{}_{}.db'.format(file_prefix, pid['value'])" in source
    assert "'a+b'" in inspect.getsource(MmapedDict.__init__)
    assert list(inspect.signature(mark_process_dead).parameters) == ["pid", "path"]
    assert "'*.db'" in inspect.getsource(MultiProcessCollector.collect)
