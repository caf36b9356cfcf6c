"""What a platform's data make of a container's variables, and of options that nobody has given."""

from __future__ import annotations

from typing import Any

import pytest

from duallisten import Config
from duallisten.config.options import Options
from duallisten.config.platforms import Place, Platform
from duallisten.config.platforms.place import place_of
from duallisten.net import read_address
from tests.support.applications import Observed

NEW = Platform(
    name="new",
    application_variable="NEW_APP",
    container_variable="NEW_DYNO",
    container_separator=".",
    process_type_variable="NEW_GROUP",
    instance_variable="NEW_INSTANCE",
    version_variable="NEW_RELEASE",
    hostname_variable="NEW_NAME",
    private_variables=("NEW_IP", "NEW_IPS"),
    grace_variable="NEW_GRACE",
    port=8080,
    grace=10.0,
    keep_alive=60.0,
    private_dns_ttl=4.0,
    public_linger=2.0,
    sets_concurrency=True,
)


def completed(place: Place, **given: Any) -> tuple[dict[str, Any], dict[str, str], str]:
    """uvicorn's options as the place completes them, where they come from, and what is said."""
    origins = {"workers": "$WEB_CONCURRENCY"}
    told = place.complete_uvicorn(given, origins)
    return given, origins, told


def test_a_container_says_who_it_is() -> None:
    said = {
        "NEW_APP": "shop",
        "NEW_DYNO": "big.web.3",
        "NEW_GROUP": "other",
        "NEW_RELEASE": "v7",
        "NEW_NAME": "a.new.",
    }
    place = place_of(NEW, said)
    assert (place.application, place.container, place.process_type) == ("shop", "big.web.3", "big.web")
    assert (place.version, place.private_hostname) == ("v7", "a.new")
    place = place_of(NEW, {"NEW_GROUP": "worker", "NEW_INSTANCE": "i-1"})
    assert (place.container, place.process_type) == ("i-1", "worker")
    assert place_of(NEW, {"NEW_APP": ""}) == Place(NEW)


def test_its_private_addresses_are_read_from_several_variables_each_once() -> None:
    place = place_of(NEW, {"NEW_IP": "10.0.0.5", "NEW_IPS": "::ffff:10.0.0.5, fd00::5 nonsense"})
    assert place.private_addresses == (read_address("10.0.0.5"), read_address("fd00::5"))


def test_defaults_follow_from_the_platform_s_promises() -> None:
    given, origins, told = completed(Place(NEW))
    assert given == {"host": "0.0.0.0", "port": 8080, "timeout_keep_alive": 75, "timeout_graceful_shutdown": 6}
    assert set(origins.values()) == {"platform new", "$WEB_CONCURRENCY, which new sets"}
    assert told == ""
    assert completed(Place(NEW, port=5000))[0]["port"] == 5000
    options = Place(NEW).complete(Options(), {})
    assert (options.private_linger, options.public_linger, options.private_missing) == (4.0, 2.0, "loopback")
    assert Place(NEW).complete(Options(public_linger=0.0), {}).public_linger == 0.0
    assert (Options().public_linger, Place().complete(Options(), {}).private_network) == (None, ())


@pytest.mark.parametrize(
    ("grace", "default", "longest"), [(2, 1, 1), (5, 3, 3), (10, 6, 7), (30, 20, 25), (300, 30, 295)]
)
def test_requests_have_two_thirds_of_the_grace_and_never_all_of_it(grace: float, default: int, longest: int) -> None:
    place = Place(NEW._replace(grace=grace))
    assert completed(place)[0]["timeout_graceful_shutdown"] == default
    given, _, told = completed(place, timeout_graceful_shutdown=0)
    assert given["timeout_graceful_shutdown"] == longest
    assert f"lowered from no limit to {longest} s: new sends SIGKILL {grace} s after SIGTERM" in told


def test_a_grace_that_a_user_can_raise_lowers_nothing() -> None:
    platform = NEW._replace(grace_setting="`kill_timeout`", stop_signal="SIGINT")
    given, _, told = completed(Place(platform), timeout_graceful_shutdown=60)
    assert given["timeout_graceful_shutdown"] == 60
    assert told == (
        "--timeout-graceful-shutdown 60: new sends SIGKILL 10 s after SIGINT, "
        "unless that is raised, too: `kill_timeout`"
    )
    raised = place_of(platform, {"NEW_GRACE": "90"})
    assert completed(raised)[0]["timeout_graceful_shutdown"] == 30
    assert completed(raised, timeout_graceful_shutdown=60)[2] == ""
    assert place_of(platform, {"NEW_GRACE": "soon"}).grace == 10


@pytest.mark.parametrize(
    ("types", "process_type", "routed"), [((), "x", True), (("web",), "web", True), (("web",), "tcp", False)]
)
def test_the_routers_may_be_those_of_some_process_types(
    types: tuple[str, ...], process_type: str, routed: bool
) -> None:
    platform = NEW._replace(is_routed=True, routed_process_types=types)
    assert Place(platform, process_type=process_type).is_routed is routed
    assert not Place(platform._replace(is_routed=False), process_type=process_type).is_routed


def test_a_configuration_of_a_platform_says_where_its_values_come_from() -> None:
    made = Config(Observed(), platform="kubernetes", log_config=None)
    assert made.origins["public_linger"] == "platform kubernetes"
    assert "private_network" not in made.origins
