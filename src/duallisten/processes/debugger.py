"""Whether a debugger is attached to this process: one that stops all threads at a breakpoint, so that nothing answers.

- pydevd is what debugpy (VS Code) and PyCharm are made of.
- Since 3.12 a debugger registers itself with `sys.monitoring`, under a number of its own (PEP 669).

pdb stops the thread that it runs in alone, and a trace function may be a coverage tool's: neither counts.
"""

from __future__ import annotations

import sys


def is_debugged() -> bool:
    """Whether a debugger may stop all threads of this process."""
    if "pydevd" in sys.modules:
        return True
    return sys.version_info >= (3, 12) and sys.monitoring.get_tool(sys.monitoring.DEBUGGER_ID) is not None
