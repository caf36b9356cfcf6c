"""The options that duallisten adds to uvicorn's: the only list of them.

A field of `Options` is one option, with its type, its default and its `OptionSpec`: help, and the function that reads
it.

A default of None means: decided from the platform, in `Config`.
"""

from ipaddress import IPv4Network
from typing import Annotated, Any, Literal, NamedTuple, get_args

from duallisten.config import converters as values
from duallisten.config.option import Option, OptionSpec, as_option, private_twin
from duallisten.config.platforms import PLATFORMS
from duallisten.net import IPNetwork

Listeners = Literal["auto", "both", "public", "private"]
PrivateMissing = Literal["auto", "fail", "loopback", "later"]
SideDoor = Literal["serve", "refuse"]
LogFormat = Literal["text", "json"]


PLATFORM_CHOICES = ("auto", *(platform.name for platform in PLATFORMS))


class Options(NamedTuple):
    """What a user can ask of duallisten beside uvicorn's own options. Each field is an option; see its help."""

    listeners: Annotated[
        Listeners,
        OptionSpec(
            values.one_of(get_args(Listeners)),
            "Which listeners to open. auto: both, except where the platform says otherwise.",
            choices=get_args(Listeners),
        ),
    ] = "auto"
    private_host: Annotated[
        str,
        OptionSpec(
            values.text,
            "Where the private listener binds: an IP address, the name of an interface, a host name of this host, or "
            "auto: the host's address inside a private network.",
            metavar="ADDRESS|INTERFACE|NAME|auto",
        ),
    ] = "auto"
    private_port: Annotated[
        int, OptionSpec(values.port, "The fixed private port. 0 picks a free one and logs it.", metavar="PORT")
    ] = 9240
    private_network: Annotated[
        tuple[IPNetwork, ...],
        OptionSpec(
            values.private_networks,
            "What counts as private, IPv4 or IPv6. May be repeated.",
            metavar="CIDR",
            kind="list",
        ),
    ] = (IPv4Network("10.240.0.0/22"),)
    private_allow: Annotated[
        tuple[IPNetwork, ...] | None,
        OptionSpec(
            values.networks_or_none,
            "Which peers the private listener admits. May be repeated. [default: the private network of its address, "
            "and loopback]",
            metavar="CIDR",
            kind="list",
        ),
    ] = None
    private_hostnames: Annotated[
        tuple[str, ...],
        OptionSpec(
            values.hostnames,
            "A name by which neighbours call the private side, beside IP addresses, localhost and the names of this "
            "host. May be repeated. With it the private side answers other names with 421; without it only the pages "
            "of duallisten do.",
            metavar="NAME",
            kind="list",
            flag="--private-hostname",
        ),
    ] = ()
    private_missing: Annotated[
        PrivateMissing,
        OptionSpec(
            values.one_of(get_args(PrivateMissing)),
            "Without an address in a private network: fail, bind to 127.0.0.1, or (later) serve the public side at "
            "once and open the private one when the address appears. auto: fail on a platform and where PORT is set, "
            "else loopback.",
            choices=get_args(PrivateMissing),
        ),
    ] = "auto"
    private_wait: Annotated[
        float | None,
        OptionSpec(
            values.seconds,
            "How long to wait for the private address to appear. [default: 10 on a platform, else 0]",
            metavar="SECONDS",
        ),
    ] = None
    private_linger: Annotated[
        float | None,
        OptionSpec(
            values.seconds,
            "How long the private side goes on accepting when the server is told to end, for neighbours who still "
            "have its address; at most half of --timeout-graceful-shutdown. [default: 5 on Scalingo, as long as its "
            "private names are cached; else 0]",
            metavar="SECONDS",
        ),
    ] = None
    side_door: Annotated[
        SideDoor,
        OptionSpec(
            values.one_of(get_args(SideDoor)),
            "What a peer gets that reaches the public listener on a private address: the public side, or a closed "
            "connection. Its forwarded headers are never believed.",
            choices=get_args(SideDoor),
        ),
    ] = "serve"
    platform: Annotated[
        str,
        OptionSpec(
            values.one_of(PLATFORM_CHOICES),
            "Whose conventions hold. auto: told by the platform's own variables.",
            choices=PLATFORM_CHOICES,
        ),
    ] = "auto"
    private_paths: Annotated[
        tuple[str, ...],
        OptionSpec(
            values.prefixes,
            "Hide what lies under this path on the public side: /internal hides /internal and /internal/x, not "
            "/internals. May be repeated.",
            metavar="PREFIX",
            kind="list",
            flag="--private-path",
        ),
    ] = ()
    public_paths: Annotated[
        tuple[str, ...],
        OptionSpec(
            values.prefixes,
            "Serve nothing on the public side but what lies under this path. May be repeated; --private-path beats it.",
            metavar="PREFIX",
            kind="list",
            flag="--public-path",
        ),
    ] = ()
    hidden_status: Annotated[
        int,
        OptionSpec(
            values.hidden_status,
            "How requests are answered that these rules hide.",
            choices=("404", "403"),
        ),
    ] = 404
    private_app: Annotated[
        Any,
        OptionSpec(
            values.application,
            "An application of its own for the private side. Both are started and stopped, each once.",
            metavar="MODULE:ATTRIBUTE",
        ),
    ] = None
    strict_routes: Annotated[
        bool,
        OptionSpec(
            values.switch,
            "Refuse to start while there is a route that no rule and no mark puts on a side.",
            kind="switch",
        ),
    ] = False
    private_workers: Annotated[
        int,
        OptionSpec(
            values.count,
            "Processes that serve the private side alone, so that a public side which is busy or blocked does not "
            "delay it; --workers serve the public side then. 0: the workers serve both.",
            metavar="N",
        ),
    ] = 0
    preload: Annotated[
        bool,
        OptionSpec(
            values.switch,
            "With several workers: import the application once and fork them, for memory. Its import must start no "
            "thread and open no connection.",
            kind="switch",
        ),
    ] = False
    timeout_request_header: Annotated[
        float | None,
        OptionSpec(
            values.seconds,
            "How long a peer may take for the whole head of a request, for a TLS handshake and for a WebSocket "
            "handshake. 0: no limit.",
            metavar="SECONDS",
            per_listener=True,
        ),
    ] = 30.0
    timeout_request_body: Annotated[
        float | None,
        OptionSpec(
            values.seconds,
            "The longest time between two reads of a request's body; then its connection is closed. 0: no limit.",
            metavar="SECONDS",
            per_listener=True,
        ),
    ] = 60.0
    timeout_send: Annotated[
        float | None,
        OptionSpec(
            values.seconds,
            "The longest time in which a peer takes nothing of what is written to it; then its connection is closed. "
            "0: no limit.",
            metavar="SECONDS",
            per_listener=True,
        ),
    ] = 60.0
    max_head_size: Annotated[
        int,
        OptionSpec(
            values.count,
            "The largest head of a request, with its request line; a larger one is answered with 431. 0: no limit.",
            metavar="BYTES",
            per_listener=True,
        ),
    ] = 65536
    max_head_fields: Annotated[
        int,
        OptionSpec(
            values.count,
            "The most header fields of a request; more are answered with 431. 0: no limit.",
            metavar="N",
            per_listener=True,
        ),
    ] = 100
    max_body_size: Annotated[
        int,
        OptionSpec(
            values.count,
            "The largest body of a request, chunked or not; a larger one is answered with 413. 0: no limit.",
            metavar="BYTES",
            per_listener=True,
        ),
    ] = 0
    limit_connections: Annotated[
        int,
        OptionSpec(
            values.count,
            "Connections that a process has open on a listener; further ones wait in the kernel's queue. 0: no limit.",
            metavar="N",
            per_listener=True,
        ),
    ] = 0
    limit_connections_per_peer: Annotated[
        int,
        OptionSpec(
            values.count,
            "Connections that a process has open on a listener from one peer address; further ones are closed. "
            "0: no limit.",
            metavar="N",
            per_listener=True,
        ),
    ] = 0

    private_health: Annotated[
        str | None,
        OptionSpec(
            values.prefix_or_none,
            "Tell on the private side how the launch stands: PREFIX/livez, PREFIX/readyz and PREFIX/startupz for "
            "probes, PREFIX/status for a person. [default: off]",
            metavar="PREFIX",
        ),
    ] = None
    health_stall: Annotated[
        float,
        OptionSpec(
            values.duration,
            "How long a process's event loop may be stuck before livez says that it does not live.",
            metavar="SECONDS",
        ),
    ] = 10.0
    private_metrics: Annotated[
        str | None,
        OptionSpec(
            values.prefix_or_none,
            "Serve metrics of both sides for Prometheus at this path of the private side. [default: off]",
            metavar="PATH",
        ),
    ] = None
    log_format: Annotated[
        LogFormat,
        OptionSpec(
            values.one_of(get_args(LogFormat)),
            "text: uvicorn's lines. json: an object a line, for access and errors alike, with a request id.",
            choices=get_args(LogFormat),
        ),
    ] = "text"
    request_id_header: Annotated[
        str | None,
        OptionSpec(
            values.header_or_none,
            "The request header that holds the id of a request that a trusted peer has given it; others get one here. "
            "[default: X-Request-ID with --log-format json, else requests get no id]",
            metavar="NAME",
        ),
    ] = None
    register: Annotated[
        str | None,
        OptionSpec(
            values.text_or_none,
            "Register this service so that others can find it: redis://, rediss:// or postgresql://. It needs "
            "duallisten[redis] or duallisten[postgres]. [default: off]",
            metavar="URL",
        ),
    ] = None
    service: Annotated[
        str | None,
        OptionSpec(
            values.text_or_none,
            "The name that others find this service by. [default: application and process type, where the platform "
            "tells them]",
            metavar="NAME",
        ),
    ] = None


def own_options() -> tuple[Option, ...]:
    """Every field of `Options` as an `Option`, with the twins of those that each listener may have its own of."""
    options: list[Option] = []
    for name, annotation in Options.__annotations__.items():
        face = get_args(annotation)[1]
        options.append(as_option(name, face, Options._field_defaults[name]))
        if face.per_listener:
            options.append(private_twin(options[-1]))
    return tuple(options)
