"""Signals that would kill a process that serves, with the requests in hand: they have a meaning, or do nothing.

- SIGUSR2 writes the stack of the main thread to standard error, at once, also while the event loop is blocked, then
  those of all threads, as soon as Python code runs there again (`faulthandler`). Where each task waits is logged as
  soon as the loop turns.
- SIGUSR1 and SIGQUIT do nothing; in a worker SIGHUP does nothing either, for it means something to the supervisor.

The facts it rests on:

- A program that is started has the default for a signal that had a handler, and goes on ignoring what was ignored
  (execve(2)). So these have handlers that do nothing: what the application starts is not changed.
- `faulthandler.register` with `chain` runs the handler that was there before, too. Its handler runs without the GIL: it
  may look at the thread that it has interrupted, which for a signal to a process is the main one where that can take
  it (signal(7)). The frames of a thread that runs meanwhile change under it, and the process may crash.
- A handler of Python's runs in the main thread, where the loop runs: `get_running_loop` finds it.
- A signal that is blocked stays pending until it is not (signal(7)). A fork and a program that is started inherit the
  mask (sigprocmask(2)). So the command and the supervisor hold signals back (`held`) until they, and the process that
  they start, can act on them; whoever can lets them come (`release`), and so does whoever is to run the application.

Invariants:
    - A handler of the application's, or of the program that runs a server, stays.
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
"""Signals that mean something, or nothing, to a launch that serves, and end or stop a process that has no handler."""

STDERR = 2
"""The descriptor of standard error."""


def hold() -> None:
    """Let signals wait that would end this process, until `release`, also in what it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def release() -> None:
    """Let the signals come that were held back, here or by who has started this process.

    One at a time: `faulthandler` has a small stack of its own, which the frames of several signals at once overflow.
    """
    for number in HELD:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])


@contextmanager
def held() -> Iterator[None]:
    """Let signals wait within the block; what is started there holds them back until it lets them come."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def released() -> Iterator[None]:
    """Let the signals come that were held back, until the block ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    release()
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def answered_signals(*more: signal.Signals) -> Iterator[None]:
    """Answer these signals within the block, which must be run by the main thread; elsewhere nothing is changed.

    more: signals that do nothing, beside `IGNORED`
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
    """Turn each of these signals into a byte, its number, that can be read from a socket (`signal.set_wakeup_fd`).

    A handler that did the work itself would run between any two lines of what it interrupts, and a wait would not end.
    What was held back comes first.
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
    """Do nothing about a signal."""


def _dump(number: int, frame: FrameType | None) -> None:
    """Write the stacks of all threads, none of which runs meanwhile; log the tasks when the loop turns."""
    import asyncio

    faulthandler.dump_traceback(file=STDERR, all_threads=True)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # there is none yet, or no more
        return
    loop.call_soon_threadsafe(_log_tasks)


def _log_tasks() -> None:
    import asyncio

    tasks = sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
    lines = [line for task in tasks for line in (f"Task {task.get_name()} waits in:", *_lines(task))]
    logger.warning("Process [%d] has %d tasks\n%s", os.getpid(), len(tasks), "\n".join(lines))


def _lines(task: asyncio.Task[Any]) -> list[str]:
    """Return where a task waits: a line for each of its frames, the innermost last."""
    from duallisten.observability.task_frames import waiting_frames

    codes = [(frame.f_code, frame.f_lineno) for frame in waiting_frames(task)]
    return [f'  File "{code.co_filename}", line {number}, in {code.co_name}' for code, number in codes]
