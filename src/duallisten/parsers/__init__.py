"""uvicorn's HTTP protocols, made to keep a limit on heads and to refuse what could be read in two ways.

A module for each of uvicorn's parsers, imported where that parser is used; another protocol class is left as it is.
Nothing of uvicorn's is copied or replaced: each is a subclass that looks at the bytes before uvicorn's own code does,
or at the place where uvicorn answers a request that it cannot read; with zttp, a function in front of the application.
What it must never do: cost a request that is in order anything that can be measured, let a request reach the
application that another one hid, lose a request that was in order, or write into the middle of an answer.
"""

from __future__ import annotations

from typing import Any

from duallisten.limits import NO_LIMIT


def guarded(protocol_class: Any, head_bytes: int | None) -> Any:
    """Make the subclass of one of uvicorn's HTTP protocol classes that keeps to these limits.

    head_bytes: how large the head of a request may be
    """
    names = _names(protocol_class)
    if "HttpToolsProtocol" in names:
        from duallisten.parsers.httptools import guarded_httptools

        return guarded_httptools(protocol_class, head_bytes or NO_LIMIT)
    if "H11Protocol" in names:
        from duallisten.parsers.h11 import guarded_h11

        return guarded_h11(protocol_class, head_bytes)
    return protocol_class


def guarded_app(app: Any, protocol_class: Any, head_bytes: int | None) -> Any:
    """Make the application in front of which the same is done, where the protocol class is one of zttp's.

    head_bytes: how large the head of a request may be
    """
    if not _names(protocol_class) & {"AutoZttpProtocol", "ZttpProtocol"}:
        return app
    from duallisten.parsers.zttp import in_order

    return in_order(app, head_bytes or NO_LIMIT)


def _names(protocol_class: Any) -> set[str]:
    return {base.__name__ for base in getattr(protocol_class, "__mro__", ())}
