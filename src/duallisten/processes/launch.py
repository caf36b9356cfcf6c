"""The launch: from a configuration to a running server, in this process or under a supervisor.

`run` corresponds to `uvicorn.run`. `launch` raises an error where uvicorn exits; the command line turns the error into
one line and an exit code.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from duallisten.config import Config, takes_options
from duallisten.config.uvicorn_contract import change_reloader, run_server, uvicorn_run
from duallisten.errors import DuallistenError, LaunchError, ShutdownError, UsageError
from duallisten.listeners import Plan, Pool, await_plan, listener_config, make_pools, request_of
from duallisten.listeners import sockets as sock
from duallisten.net import read_host
from duallisten.processes.exit_watch import ExitWatch
from duallisten.processes.process_signals import answered_signals, released
from duallisten.server import Server, logged, registration_of, share_of

if TYPE_CHECKING:
    import socket
    from typing import Unpack

    from duallisten.config.keywords import Keywords
    from duallisten.processes.launch_status import SupervisorObserver
    from duallisten.processes.rolling import Reread
    from duallisten.processes.service_manager import Notifier
    from duallisten.processes.supervisor import Supervisor
    from duallisten.processes.zygote import Zygote

logger = logging.getLogger("uvicorn.error")


@takes_options(like=uvicorn_run)
def run(app: Any, *, app_dir: str | None = None, **options: Unpack[Keywords]) -> None:
    """Serve `app` until told to stop; a drop-in for `uvicorn.run`.

    Args:
        app: The application, or `"module:attribute"`.
        app_dir: A folder to import the application from.
        options: uvicorn's options, duallisten's, and `private_<x>`; see `duallisten.Config`.

    Raises:
        UsageError: An option cannot be read.
        TypeError: An option does not exist.
        LaunchError: The launch has failed. The error has been logged. It is also a `SystemExit`: uncaught it ends the
            program with code 3, as under uvicorn.
        ShutdownError: The application has been served, and a step of the shutdown has failed.
    """
    if app_dir is not None:
        sys.path.insert(0, app_dir)
    try:
        launch(Config(app, **options))
    except LaunchError as error:
        raise logged(error) from None


def launch(config: Config, reread: Reread | None = None, *, owns_process: bool = False) -> None:
    """Serve as `config` says: with a reloader, with workers, or in this process.

    reread: reads the configuration again, for SIGHUP
    owns_process: whether this process exists only for the launch, and ends with it
    """
    process = os.getpid()
    try:
        take_passed_sockets(config)
        plan = await_plan(request_of(config), read_host)
        config.check_pages(has_private=plan.private is not None or plan.later)
        pools = make_pools(plan, config.workers, config.options.private_workers)
        later_pool = plan.later and config.options.private_workers > 0
        several = later_pool or sum(pool.size for pool in pools) > 1
        if config.reload or several:
            _require_import_strings(config)
        is_supervisor = several and not config.should_reload
        is_init = owns_process and os.getpid() == 1
        if is_init and not is_supervisor:
            from duallisten.processes.init_process import fork_from_init

            fork_from_init()
            process = os.getpid()
        share = None if config.should_reload or several else share_of(plan)
        with (
            _zygote(config, wanted=is_supervisor and owns_process) as zygote,
            _metric_files(config, several=is_supervisor),
            _bound(plan, share) as bound,
        ):
            if config.should_reload or several:
                _launch_processes(config, plan, pools, bound, Beside(reread, zygote, is_init))
            else:
                _serve_alone(config, plan, bound, owns_process=owns_process)
    except KeyboardInterrupt:
        pass
    finally:
        if owns_process and os.getpid() == process:  # a failed launch may have left threads behind, too
            ExitWatch(getattr(sys.exception(), "exit_code", ShutdownError.exit_code)).start()


def take_passed_sockets(config: Config) -> None:
    """Take the sockets that systemd has passed to this process, if any."""
    if "LISTEN_FDS" in os.environ:
        from duallisten.listeners.socket_activation import take_passed

        config.passed = take_passed(os.environ, os.getpid())


def _zygote(config: Config, *, wanted: bool) -> AbstractContextManager[Zygote | None]:
    """Fork the zygote, if it is wanted and possible here."""
    if not wanted:
        return nullcontext()
    from duallisten.processes.zygote import forked_early

    return forked_early(config)


def _metric_files(config: Config, *, several: bool) -> AbstractContextManager[None]:
    """Create the directory of the metrics that processes share, if `--private-metrics` is given.

    several: whether the launch has several processes at a time
    """
    if config.options.private_metrics is None:
        return nullcontext()
    from duallisten.admin.metrics_multiprocess import shared_directory

    return shared_directory(several=several)


def _control(config: Config) -> AbstractContextManager[socket.socket | None]:
    """Return a context with the control socket, or with None without `--control`; raises LaunchError."""
    if config.options.control is None:
        return nullcontext()
    from duallisten.control.listening import control_socket

    return control_socket(config.options.control)


def _require_import_strings(config: Config) -> None:
    own = config.options.private_app
    if not (isinstance(config.app, str) and isinstance(own, str | None)):
        raise LaunchError(
            "workers and reload need the application as an import string ('module:attribute'), because each process "
            "imports it; $WEB_CONCURRENCY also asks for workers: workers=1 overrides it"
        )


@contextmanager
def _bound(plan: Plan, share: sock.Share | None = None) -> Iterator[list[sock.BoundSocket]]:
    """Bind the plan's sockets for the block."""
    bound = sock.bind(plan, share=share)
    try:
        yield bound
    finally:
        sock.close(bound)
        sock.remove_path(plan)


class Beside(NamedTuple):
    """Further arguments of a supervisor.

    reread: reads the configuration again, for SIGHUP; None if it cannot be read again
    zygote: the process that workers are forked from; None if they are spawned
    reaps: whether the supervisor is process 1, and reaps orphans
    """

    reread: Reread | None
    zygote: Zygote | None
    reaps: bool


def _launch_processes(
    config: Config, plan: Plan, pools: tuple[Pool, ...], bound: list[sock.BoundSocket], beside: Beside
) -> None:
    """Run a reloader or a supervisor."""
    if "opentelemetry.instrumentation.auto_instrumentation" in sys.modules:
        from duallisten.processes.opentelemetry import reach_children

        reach_children()
    notifier = _make_notifier()
    if config.should_reload:
        _reload(config, plan, bound, notifier)
        return
    from duallisten.processes.supervisor import Supervisor

    with ExitStack() as stack:
        sock = stack.enter_context(_control(config))  # first: if that fails, nothing is started
        supervisor = Supervisor(config, plan, pools, bound, beside.reread, beside.zygote)
        supervisor.observers += _observers(supervisor, notifier, reaps=beside.reaps)
        if sock is not None:
            from duallisten.processes.control import answering
            from duallisten.processes.supervisor_control import SupervisorControl

            supervisor.observers.append(control := SupervisorControl(supervisor))
            stack.enter_context(answering(sock, control))
        supervisor.run()


def _observers(supervisor: Supervisor, notifier: Notifier | None, *, reaps: bool) -> Iterator[SupervisorObserver]:
    """Build the observers of a launch with workers."""
    from duallisten.processes.starting import StartObserver

    yield StartObserver(supervisor)
    if notifier is not None:
        from duallisten.processes.service_manager.supervisor import NotifyingObserver

        yield NotifyingObserver(supervisor, notifier)
    if reaps:
        from duallisten.processes.init_process import OrphanReaper

        yield OrphanReaper(supervisor)


def _serve_alone(config: Config, plan: Plan, bound: list[sock.BoundSocket], *, owns_process: bool) -> None:
    """Serve in this process.

    The sockets are bound first, then the application is imported, then the event loop starts. So a module of the
    application may call `asyncio.run` while it is imported, as under uvicorn.

    owns_process: whether the process exists only for the launch; it then exits with 0 after a signal and a good end
    """
    server = Server(config, plan=plan)
    server.listeners.bound = bound
    if (notifier := _make_notifier()) is not None:
        from duallisten.processes.service_manager import tell_phases

        tell_phases(server, notifier)
    watch = ExitWatch()
    server.lifecycle.observers.append(watch.hear)
    try:
        with _controlled(config, server), answered_signals(), _noting(server, signal.SIGHUP), ExitStack() as noting:
            noting.enter_context(_noting(server, signal.SIGTERM))
            if owns_process:
                noting.enter_context(released())
            config.import_apps()
            if not owns_process:
                noting.close()  # the program dies of SIGTERM when the server has ended, as under uvicorn
            with suppress(KeyboardInterrupt):
                run_server(server)
    finally:
        watch.cancel()


@contextmanager
def _controlled(config: Config, server: Server) -> Iterator[None]:
    """Answer requests at the control socket within the block, if `--control` is given; raises LaunchError."""
    with _control(config) as sock:
        if sock is None:
            yield
            return
        from duallisten.processes.control import LoneControl, answering

        with answering(sock, LoneControl(config, server)):
            yield


@contextmanager
def _noting(server: Server, number: signal.Signals) -> Iterator[None]:
    """Handle a signal that has no handler, also during the import: the server then ends as soon as it has started.

    Without a handler SIGTERM would be lost in process 1 of a container (pid_namespaces(7)), and would end any other
    process in the middle of the import. SIGHUP, which a terminal sends when it is closed, would end the process at any
    time. When the server has ended, uvicorn raises again the signals that have ended it: with this handler the process
    does not die of them.
    """
    is_free = threading.current_thread() is threading.main_thread() and signal.getsignal(number) is signal.SIG_DFL
    if is_free:
        signal.signal(number, server.handle_exit)
    try:
        yield
    finally:
        if is_free:
            signal.signal(number, signal.SIG_DFL)


def _make_notifier() -> Notifier | None:
    """Build the notifier for systemd; None if systemd has not set `NOTIFY_SOCKET`."""
    if "NOTIFY_SOCKET" not in os.environ:
        return None
    from duallisten.processes.service_manager import make_notifier

    return make_notifier(os.environ, os.getpid())


def _reload(config: Config, plan: Plan, bound: list[sock.BoundSocket], notifier: Notifier | None) -> None:
    """Run uvicorn's reloader, with one process that serves the whole plan."""
    from duallisten.listeners import log_listeners
    from duallisten.processes.worker_main import ReloadedProcess

    for name in ("private_workers", "preload"):
        if getattr(config.options, name):
            logger.warning("--%s is ignored while reloading: one process serves both sides.", name.replace("_", "-"))
    if config.options.control is not None:
        logger.warning("--control is ignored while reloading: the answering process is replaced at each change.")
    if config.options.register is not None:
        logger.warning("--register is ignored while reloading: clients should not be sent to code under development.")
    log_listeners(config, plan, bound, lambda side: "reloading process")
    target, reloader = ReloadedProcess(config, plan, tuple(one.side for one in bound)), change_reloader()
    if notifier is not None:
        from duallisten.processes.service_manager.reload import notifying_process, notifying_reloader

        target, reloader = notifying_process(target, notifier), notifying_reloader(notifier)
    reloader(config, target=target, sockets=[one.socket for one in bound]).run()


def check(config: Config, *, as_json: bool) -> None:
    """Print what a launch of `config` would do up to its first error, and raise that error.

    The addresses are bound and released again; the application is imported, and its lifespan does not run.
    """
    from duallisten.listeners.report import as_json as to_json
    from duallisten.listeners.report import make_report, print_table

    plan, error = None, None
    try:
        take_passed_sockets(config)
        registration_of(config)
        plan = await_plan(request_of(config), read_host)
        _try(config, plan)
    except DuallistenError as raised:
        error = raised
    report = make_report(config, plan, str(error) if error else None)
    if as_json:
        sys.stdout.write(to_json(report) + "\n")
    else:
        print_table(report)
    sys.stdout.flush()  # before the error, which may go to the same terminal
    if error is not None:
        raise error


def _try(config: Config, plan: Plan) -> None:
    """Try the steps of a launch that leave no trace; raises the error of the launch."""
    config.check_pages(has_private=plan.private is not None or plan.later)
    make_pools(plan, config.workers, config.options.private_workers)
    with _bound(plan), nullcontext() if config.should_reload else _control(config):
        pass
    config.get_loop_factory()
    config.load()
    for listener in plan.listeners:
        listener_config(config, listener.side)


def show_routes(config: Config, *, as_json: bool) -> str:
    """Print every route that `config` serves, and how each side sees it; raises the errors of a launch.

    The application is imported, its lifespan does not run, and nothing is bound. Returns the complaint of
    `--strict-routes`; empty if there is none, or without that option.
    """
    from duallisten.endpoints.routes import as_json as to_json
    from duallisten.endpoints.routes import print_table, strict_errors, unused_rules

    strict = config.options.strict_routes
    config.options = config.options._replace(strict_routes=False)  # so that `load` does not refuse the routes
    config.load()
    sections = config.sections()
    if as_json:
        sys.stdout.write(to_json(sections) + "\n")
    else:
        print_table(sections)
    if strict and (unused := unused_rules(sections)):
        raise UsageError(f"--strict-routes: {unused}")
    return strict_errors(sections) if strict else ""
