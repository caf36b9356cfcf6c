from __future__ import annotations

import pytest

from duallisten import UsageError
from duallisten.config.platforms import NONE, locate
from duallisten.config.platforms.scalingo import SCALINGO

WEB = {
    "APP": "shop",
    "CONTAINER": "web-1",
    "CONTAINER_VERSION": "f00",
    "CONTAINER_MEMORY": "536870912",
    "SCALINGO_APPLICATION_ID": "ap-1",
    "PORT": "5000",
}


def test_scalingo_is_recognised_by_its_own_variables() -> None:
    place = locate("auto", WEB)
    assert (place.platform, place.process_type, place.port) == (SCALINGO, "web", 5000)
    assert place.in_private_network is False


def test_scalingo_is_recognised_without_an_application_id() -> None:
    assert locate("auto", {name: WEB[name] for name in WEB if not name.startswith("SCALINGO")}).platform is SCALINGO


def test_a_private_network_gives_the_container_a_name() -> None:
    names = {
        "SCALINGO_PRIVATE_NETWORK_ID": "pn-1",
        "SCALINGO_PRIVATE_HOSTNAME": "1.web.ap-1.pn-1.private-network.internal.",
    }
    place = locate("auto", WEB | names)
    assert place.in_private_network is True
    assert place.private_hostname == "1.web.ap-1.pn-1.private-network.internal"


@pytest.mark.parametrize(
    ("container", "process_type"), [("web-1", "web"), ("one-off-1234", "one-off"), ("my-api-12", "my-api"), ("", None)]
)
def test_the_process_type_is_the_container_without_its_index(container: str, process_type: str | None) -> None:
    assert locate("scalingo", {"CONTAINER": container}).process_type == process_type


def test_elsewhere_there_is_no_platform_but_still_a_port() -> None:
    place = locate("auto", {"PORT": "8080", "CONTAINER": "docker"})
    assert (place.platform, place.port, place.process_type, place.in_private_network) == (NONE, 8080, None, None)


def test_a_user_can_say_which_platform_it_is() -> None:
    assert locate("none", WEB).platform is NONE
    assert locate("scalingo", {}).platform is SCALINGO


def test_an_empty_port_is_no_port() -> None:
    assert locate("auto", {"PORT": ""}).port is None


@pytest.mark.parametrize("text", ["http", "80a", "-1", "65536", "8 0", "٨٠"])
def test_a_port_that_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"\$PORT"):
        locate("auto", {"PORT": text})
