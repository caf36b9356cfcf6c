"""What the applications of several frameworks count alike."""

from __future__ import annotations


class Hooks:
    """An application's hooks, counted."""

    def __init__(self) -> None:
        self.started = 0
        self.stopped = 0

    async def start(self) -> None:
        self.started += 1

    async def stop(self) -> None:
        self.stopped += 1
