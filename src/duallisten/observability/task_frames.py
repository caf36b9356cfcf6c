"""The stack of a waiting asyncio task.

`get_stack()` of a waiting task has only one frame, that of its coroutine. From there `cr_await` of a coroutine and
`gi_yieldfrom` of a generator lead to the awaited object, down to a future (documented with `inspect`). What an
asynchronous generator awaits cannot be read from outside, so the stack ends there. It also ends if a framework does
the work in another task or a thread.

Any thread may call this. If the task runs meanwhile, the result is its state at some time during the call.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

KINDS = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"))
"""The attributes of a coroutine and of a generator: its frame, and the object that it awaits."""

DEEPEST = 1000
"""The most objects that are followed: an application's object may have these attributes, too, and form a cycle."""


def waiting_frames(task: asyncio.Task[Any]) -> list[FrameType]:
    """Return the frames of a waiting task, the innermost last; empty if the task has ended."""
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
