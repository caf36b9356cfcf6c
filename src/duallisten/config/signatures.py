"""The signatures of the public functions: uvicorn's parameters in its order, then ours.

`run`, `Config` and the test kit take `**options` and pass them to `options.split_keywords`. The signature that
`inspect.signature`, `help` and an interactive shell show is built on demand, from the installed uvicorn and from
`Options`. So it costs a launch nothing. A type checker reads `keywords.Keywords` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, TypeVar

from duallisten.config.options import own_options, uvicorn_twins
from duallisten.config.uvicorn_contract import UvicornConfig
from duallisten.config.uvicorn_options import LATER

Function = TypeVar("Function", bound=Callable[..., Any])


def takes_options(*without: str, like: Callable[..., Any] | None = None) -> Callable[[Function], Function]:
    """Decorate a function with `**options` so that its signature shows the options.

    Args:
        without: Options that the function does not take.
        like: uvicorn's function that it replaces; without one, all options are keyword-only.
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def called(*args: Any, **options: Any) -> Any:
            return function(*args, **options)

        called.__wrapped__ = _Shown(function, like, without)  # type: ignore[assignment]
        return called  # type: ignore[return-value]

    return decorate


class _Shown:
    """Sits between a function and its wrapper in the `__wrapped__` chain, and has the signature for `inspect`."""

    def __init__(self, function: Callable[..., Any], like: Callable[..., Any] | None, without: tuple[str, ...]) -> None:
        self.__wrapped__ = function
        self._like = like
        self._without = without

    @property
    def __signature__(self) -> Signature:
        own = signature(self.__wrapped__)
        named = {one.name: one for one in own.parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD}
        for one in (*_parameters(self._like), *own.parameters.values()):
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) and one.name not in self._without:
                named.setdefault(one.name, one)
        return own.replace(parameters=sorted(named.values(), key=lambda one: one.kind))


def _parameters(like: Callable[..., Any] | None) -> Iterator[Parameter]:
    from duallisten.config.keywords import Keywords

    if like is not None:
        yield from signature(like).parameters.values()
    for one in signature(UvicornConfig).parameters.values():
        yield one.replace(kind=Parameter.KEYWORD_ONLY)
    defaults = LATER | {option.name: option.default for option in own_options()} | dict.fromkeys(uvicorn_twins())
    for name, default in defaults.items():
        kind = Keywords.__annotations__[name].__forward_arg__
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
