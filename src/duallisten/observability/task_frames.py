"""Where tasks of asyncio are: the frames that a task waits in.

Facts it rests on: `get_stack()` of a task that waits has one frame, that of its coroutine. From there `cr_await` of a
coroutine and `gi_yieldfrom` of a generator lead to what it waits for, down to a future (documented with `inspect`).
What an asynchronous generator waits for cannot be asked from outside: the way ends there, and so it does where a
framework has the work done in another task or a thread.

Any thread may ask. A task that runs meanwhile is seen as it was at some time during the question.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

KINDS = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"))
"""Of a coroutine and of a generator: its frame, and what it waits for."""

DEEPEST = 1000
"""How far a task is followed; an object of the application's may have any attribute."""


def waiting_frames(task: asyncio.Task[Any]) -> list[FrameType]:
    """Return the frames of a task that waits, the innermost last; empty where it has ended."""
    frames: list[FrameType] = []
    awaited: Any = task.get_coro()
    for _ in range(DEEPEST):
        frame_name, next_name = next((kind for kind in KINDS if hasattr(awaited, kind[1])), ("", ""))
        if not next_name:
            break
        frame, awaited = getattr(awaited, frame_name, None), getattr(awaited, next_name)
        if frame is not None:
            frames.append(frame)
    return frames
