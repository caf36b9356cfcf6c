"""Handlers for signals that would otherwise kill a serving process and its requests.

- SIGUSR2 writes the stack of the main thread to standard error at once, also while the event loop is blocked. Then it
  writes the stacks of all threads, as soon as the main thread runs Python code again (`faulthandler`). As soon as the
  event loop runs, it logs where each task waits.
- SIGUSR1 and SIGQUIT do nothing. SIGHUP does nothing in a worker: the supervisor acts on it.

This rests on these facts:

- A program that is executed gets the default action for a signal that had a handler, and goes on ignoring a signal that
  was ignored (execve(2)). So these signals are not ignored but have handlers that do nothing: programs that the
  application starts see no difference.
- `faulthandler.register` with `chain` also runs the previous handler. faulthandler's handler runs without the GIL. It
  may read the stack of the thread that it has interrupted: the kernel sends a signal for a process to the main thread
  if that can take it (signal(7)). The frames of another thread may change meanwhile, and the process may crash.
- A Python handler runs in the main thread, where the event loop runs: `get_running_loop` finds the loop.
- A blocked signal stays pending until it is unblocked (signal(7)). A fork and an executed program inherit the signal
  mask (sigprocmask(2)). So the command and the supervisor hold signals back (`held`) until they, and the process that
  they start, can act on them. A process that can act on them, or is about to run the application, calls `release`.

Invariants:
    - A handler of the application, or of the program that runs a server, stays.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from types import FrameType

logger = logging.getLogger("uvicorn.error")

IGNORED = (signal.SIGUSR1, signal.SIGQUIT)
"""Signals that do nothing."""

HELD = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGTTIN, signal.SIGTTOU)
"""Signals that a launch handles or ignores while it serves; they end or stop a process that has no handler for them."""

STDERR = 2
"""The descriptor of standard error."""


def hold() -> None:
    """Hold back signals that would end this process, until `release`; processes started meanwhile do so, too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def release() -> None:
    """Deliver the signals that were held back, by this process or by its parent.

    They are unblocked one at a time: the frames of several signals at once overflow faulthandler's small stack.
    """
    for number in HELD:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])


@contextmanager
def held() -> Iterator[None]:
    """Hold signals back within the block; a process started there holds them back until it calls `release`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def released() -> Iterator[None]:
    """Deliver the signals that were held back, until the block ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    release()
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def answered_signals(*more: signal.Signals) -> Iterator[None]:
    """Handle SIGUSR2, `IGNORED` and `more` within the block; in another thread than the main one do nothing.

    more: further signals that do nothing
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}
    for number in (signal.SIGUSR2, *IGNORED, *more):
        if signal.getsignal(number) in (signal.SIG_DFL, ignore):
            before[number] = signal.signal(number, _dump if number == signal.SIGUSR2 else ignore)
    if signal.SIGUSR2 in before:
        faulthandler.register(signal.SIGUSR2, file=STDERR, all_threads=False, chain=True)
    try:
        yield
    finally:
        if signal.SIGUSR2 in before:
            faulthandler.unregister(signal.SIGUSR2)
        for number, handler in before.items():
            if signal.getsignal(number) in (_dump, ignore):
                signal.signal(number, handler)


@contextmanager
def caught(numbers: Iterable[int]) -> Iterator[socket.socket]:
    """Write the number of each of these signals to a socket, as one byte (`signal.set_wakeup_fd`).

    A handler that did the work itself could run between any two lines of code, and would not end a wait. Signals that
    were held back come first.
    """
    reading, writing = socket.socketpair()
    with reading, writing:
        reading.setblocking(False)
        writing.setblocking(False)
        wakeup = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, ignore) for number in numbers}
        try:
            with released():
                yield reading
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)


def ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing on a signal."""


def _dump(number: int, frame: FrameType | None) -> None:
    """Write the stacks of all threads, none of which runs meanwhile; log the tasks as soon as the loop runs."""
    import asyncio

    faulthandler.dump_traceback(file=STDERR, all_threads=True)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # no loop runs
        return
    loop.call_soon_threadsafe(_log_tasks)


def _log_tasks() -> None:
    import asyncio

    tasks = sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
    lines = [line for task in tasks for line in (f"Task {task.get_name()} waits in:", *_lines(task))]
    logger.warning("Process [%d] has %d tasks\n%s", os.getpid(), len(tasks), "\n".join(lines))


def _lines(task: asyncio.Task[Any]) -> list[str]:
    """Return the stack of a waiting task, a line for each frame, the innermost last."""
    from duallisten.observability.task_frames import waiting_frames

    codes = [(frame.f_code, frame.f_lineno) for frame in waiting_frames(task)]
    return [f'  File "{code.co_filename}", line {number}, in {code.co_name}' for code, number in codes]
