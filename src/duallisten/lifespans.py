"""The lifespans of what is served: one for each application, whatever listeners lead to it.

Both applications are started, whichever listeners are open: the public one first, then the private one if it is
another, so that the private one may build on what the public one has made. They are shut down the other way round. If
one fails to start, what has been started before it is shut down in order, and nothing is served.

uvicorn's own lifespan protocol does each (`Config.lifespan_class`); `uvicorn.Server` knows of the first alone.
"""

from __future__ import annotations

from typing import Any

from duallisten.admission import Side
from duallisten.config import Config
from duallisten.errors import LaunchError


class Lifespans:
    """What starts and shuts down the applications of a server.

    first: the lifespan of the public side's application, as `uvicorn.Server` has made it
    config: the loaded configuration
    """

    def __init__(self, first: Any, config: Config) -> None:
        source = config.source("private")
        own: Any = first if source is config else source.lifespan_class(source)
        self._by_side: dict[Side, Any] = {"public": first, "private": own}
        self._names = {id(own): f"the private application {source.app_name}", id(first): "the application"}

    def state(self, side: Side) -> dict[str, Any]:
        """Give the state that the lifespan of a side's application shares with its requests."""
        state: dict[str, Any] = self._by_side[side].state
        return state

    async def startup(self) -> None:
        """Start them in order; raises LaunchError where one fails, when the others have been shut down again."""
        started: list[Any] = []
        for lifespan in dict.fromkeys(self._by_side.values()):
            await lifespan.startup()
            if lifespan.should_exit:
                for other in reversed(started):
                    await other.shutdown()
                name = self._names[id(lifespan)]
                raise LaunchError(f"{name} failed to start: its reason stands above; no listener was opened")
            started.append(lifespan)

    async def shutdown(self) -> None:
        """Shut them down, the last one first."""
        for lifespan in reversed(dict.fromkeys(self._by_side.values())):
            await lifespan.shutdown()
