"""An application that breaks when it is asked to: by the variable `FAULT`, or by a path.

Each of its processes writes its id into the file `started` of the folder in the variable `FOLDER`, and answers with it.

| fault | what happens |
|---|---|
| `import` | importing it raises |
| `start` | its start fails, as Starlette tells it |
| `end` | its shutdown fails, in the same way |
| `crash` | its process dies 50 ms after each start, while there is a file `crash` in the folder |
| `stuck` | a thread that nobody ends keeps its process from exiting |

`/work` takes 20 ms and `/slow` a second, both awaited; `/cut` begins an answer and raises; `/big` is 50 MiB long.
`/stream` goes on until its client is gone, `/block` blocks the event loop for good, and `/orphans` starts processes
that lose their parent and end.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

FAULT = os.environ.get("FAULT", "")
WAITS = {"/work": 0.02, "/slow": 1.0}
CHUNK, CHUNKS = bytes(1 << 16), 800
CRASH_CODE = 9
FOR_GOOD = 3600.0
ORPHANS = 8

if FAULT == "import":
    raise RuntimeError("the import fails")


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with the id of the process, unless something is to break."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    path = scope["path"]
    await asyncio.sleep(WAITS.get(path, 0))
    if path == "/stream":
        await _stream(receive, send)
        return
    if path == "/block":
        time.sleep(FOR_GOOD)  # it is the fault
    if path == "/orphans":
        for _ in range(ORPHANS):
            subprocess.run(["sh", "-c", "sleep 0.1 &"], check=True)  # as an application may
    if path == "/cut":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a part", "more_body": True})
        raise RuntimeError("amid an answer")
    body, times = (CHUNK, CHUNKS) if path == "/big" else (b"%d\n" % os.getpid(), 1)
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % (len(body) * times))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(times):
        await send({"type": "http.response.body", "body": body, "more_body": number < times - 1})


async def _stream(receive: Any, send: Any) -> None:
    """Send a line every tenth of a second until the client is gone."""
    gone = asyncio.ensure_future(_disconnected(receive))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    while not gone.done():
        await send({"type": "http.response.body", "body": b"%d\n" % os.getpid(), "more_body": True})
        await asyncio.wait([gone], timeout=0.1)


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _live(receive: Any, send: Any) -> None:
    await receive()
    if FAULT == "start":
        await send({"type": "lifespan.startup.failed", "message": "the start fails"})
        raise RuntimeError("the start fails")
    folder = Path(os.environ["FOLDER"])
    with (folder / "started").open("a") as file:
        file.write(f"{os.getpid()}\n")
    await send({"type": "lifespan.startup.complete"})
    if FAULT == "crash" and (folder / "crash").exists():
        asyncio.get_running_loop().call_later(0.05, os._exit, CRASH_CODE)
    if FAULT == "stuck":
        threading.Thread(target=time.sleep, args=(FOR_GOOD,)).start()
    await receive()
    if FAULT == "end":
        await send({"type": "lifespan.shutdown.failed", "message": "the shutdown fails"})
        raise RuntimeError("the shutdown fails")
    await send({"type": "lifespan.shutdown.complete"})
