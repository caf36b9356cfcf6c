"""What users call names its options, to `inspect`, to editors and to type checkers, as uvicorn does.

mypy reads this file, too: a call that it should refuse is marked, and a mark that is not needed is an error.
"""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from collections.abc import Callable
from inspect import Parameter
from typing import Any

import pytest
import uvicorn

import duallisten
from duallisten.config import uvicorn_defaults
from duallisten.config.keywords import Keywords
from duallisten.config.options import own_options, uvicorn_twins
from duallisten.testing import as_side, serve
from tests.contracts import keywords
from tests.support.applications import Observed

OURS = [option.name for option in own_options()] + list(uvicorn_twins())


def parameters(called: Callable[..., Any]) -> dict[str, Parameter]:
    return dict(inspect.signature(called).parameters)


def test_the_keywords_that_type_checkers_read_are_those_that_there_are() -> None:
    assert Keywords.__annotations__.keys() >= {*uvicorn_defaults(), *OURS}
    if uvicorn.__version__.startswith("0.54."):  # an older one has fewer
        assert keywords.MODULE.read_text() == keywords.text(), "run: python -m tests.contracts.keywords"


@pytest.mark.parametrize(
    ("ours", "theirs"), [(duallisten.Config.__init__, uvicorn.Config.__init__), (duallisten.run, uvicorn.run)]
)
def test_uvicorn_s_parameters_come_first_in_its_order_and_then_ours(
    ours: Callable[..., Any], theirs: Callable[..., Any]
) -> None:
    first = parameters(theirs)
    found = parameters(ours)
    assert [(one.name, one.kind, one.default) for one in found.values()][: len(first)] == [
        (one.name, one.kind, one.default) for one in first.values()
    ]
    assert [name for name in found if name in OURS] == OURS
    assert set(found) == {*first, *uvicorn_defaults(), *OURS}
    assert found["private_port"].default == 9240 and found["private_port"].annotation == "int"


def test_the_test_kit_names_its_options_too() -> None:
    assert list(parameters(as_side))[:2] == ["app", "name"]
    assert {"private_paths", "hidden_status"} <= set(parameters(as_side)) and "platform" not in parameters(as_side)
    assert {"timeout", "private_paths"} <= set(parameters(serve)) and "workers" not in parameters(serve)


@pytest.mark.parametrize("called", [duallisten.run, duallisten.Config, as_side, serve])
def test_help_names_the_options_and_the_source_is_still_found(called: Any) -> None:
    assert "private_paths: 'Iterable[str]' = ()" in pydoc.plain(pydoc.render_doc(called))
    assert "**options" in inspect.getsource(called)


def test_uvicorn_s_options_may_be_given_by_position() -> None:
    made = duallisten.Config(Observed(), "127.0.0.1", 8001, private_port=0, log_config=None)
    assert (made.host, made.port, made.options.private_port) == ("127.0.0.1", 8001, 0)
    with pytest.raises(TypeError, match="multiple values for argument 'host'"):
        duallisten.Config(Observed(), "127.0.0.1", host="127.0.0.1")
    with pytest.raises(TypeError, match="at most"):
        duallisten.Config(Observed(), *range(100))


def test_a_launch_does_not_pay_for_it() -> None:
    program = "import sys, duallisten; duallisten.run; print('duallisten.config.keywords' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"


def test_a_type_checker_refuses_what_a_launch_would() -> None:
    app = Observed()
    with pytest.raises(TypeError, match="prvate_port"):
        duallisten.run(app, prvate_port=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="origins"):
        duallisten.Config(app, origins={})  # type: ignore[call-arg]
    with pytest.raises(duallisten.UsageError, match="private_port"):
        duallisten.Config(app, private_port="http")  # type: ignore[arg-type]
    with pytest.raises(duallisten.UsageError, match="hidden_status"):
        as_side(app, "public", hidden_status=500)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="privat_paths"):
        serve(app, privat_paths=[])  # type: ignore[call-arg]
    with pytest.raises(duallisten.UsageError, match="workers='two'"):
        duallisten.run(app, workers="two")  # type: ignore[arg-type]
