"""The memory of a process, as the kernel counts it."""

from __future__ import annotations

import os
from pathlib import Path


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, on Linux; raises OSError where it cannot be read.

    It is the second field of /proc/PID/statm, in pages (proc(5)), and has in it what is shared with others.
    """
    return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
