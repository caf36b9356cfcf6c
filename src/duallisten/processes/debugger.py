"""Detects a debugger that stops all threads of this process at a breakpoint, so that the process answers nothing.

- debugpy (VS Code) and PyCharm are built on pydevd.
- Since 3.12 a debugger registers itself with `sys.monitoring`, under the tool id for debuggers (PEP 669).

pdb does not count: it stops only the thread that it runs in. Nor does a trace function: coverage tools set one, too.
"""

from __future__ import annotations

import sys


def is_debugged() -> bool:
    """Whether a debugger may stop all threads of this process."""
    if "pydevd" in sys.modules:
        return True
    return sys.version_info >= (3, 12) and sys.monitoring.get_tool(sys.monitoring.DEBUGGER_ID) is not None
