"""The options that duallisten adds to uvicorn's: the only list of them.

A field of `Options` is one option. It has a default, and its type is annotated with an `OptionSpec` (its reader and its
form on the command line; a `Literal` needs none), with its help, and with `WITH_TWIN` where the private listener may
have its own value by an option `--private-<x>`.

Where `Config` fills in a default None, the platform decides.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, get_args

from duallisten.config import option as readers
from duallisten.config.option import NOT_SHOWN, Kind, Option, Reader, is_secret, nearest, own_variables, private_twin
from duallisten.config.platforms import NAMES
from duallisten.config.uvicorn_options import is_inherited, is_per_listener, uvicorn_defaults, uvicorn_options
from duallisten.errors import UsageError
from duallisten.net import IPNetwork

WITH_TWIN = "each listener may have its own value"


class OptionSpec(NamedTuple):
    """The reader of a type's values, and their form on the command line."""

    read: Reader
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    kind: Kind = "value"


def _choice(*choices: str | int) -> OptionSpec:
    return OptionSpec(readers.one_of(choices), choices=tuple(map(str, choices)))


Switch = Annotated[bool, OptionSpec(readers.switch, kind="switch")]
Count = Annotated[int, OptionSpec(readers.count, "N")]
Bytes = Annotated[int, OptionSpec(readers.count, "BYTES")]
Seconds = Annotated[float | None, OptionSpec(readers.or_none(readers.seconds), "SECONDS")]
Prefixes = Annotated[tuple[str, ...], OptionSpec(readers.prefixes, "PREFIX", kind="list")]
Hostnames = Annotated[tuple[str, ...], OptionSpec(readers.hostnames, "NAME", kind="list")]
PrivateNetworks = Annotated[tuple[IPNetwork, ...], OptionSpec(readers.private_networks, "CIDR", kind="list")]
Networks = Annotated[tuple[IPNetwork, ...] | None, OptionSpec(readers.or_none(readers.networks), "CIDR", kind="list")]


class Options(NamedTuple):
    """duallisten's own options, in addition to uvicorn's. Each field is an option; see its help."""

    listeners: Annotated[
        Literal["auto", "both", "public", "private"],
        "Which listeners to open. auto: both, except where the platform says otherwise.",
    ] = "auto"
    private_host: Annotated[
        tuple[str, ...],
        OptionSpec(readers.private_hosts, "ADDRESS|INTERFACE|NAME|auto", kind="list"),
        "Where the private listener binds. auto: this host's address inside a private network, one of each IP version. "
        "An interface stands for all its addresses, and its networks count as private unless --private-network says "
        "what does. May be repeated, with 127.0.0.1 or localhost, too. [default: auto]",
    ] = ("auto",)
    private_port: Annotated[
        int, OptionSpec(readers.port, "PORT"), "The fixed private port. 0 picks a free one and logs it."
    ] = 9240
    private_network: Annotated[
        PrivateNetworks,
        "Networks that are private. IPv4 or IPv6. May be repeated. [default: the platform's, else none]",
    ] = None  # type: ignore[assignment]  # `Config` fills it in
    private_allow: Annotated[
        Networks,
        "Which peers the private listener admits. May be repeated. Where the port is the fence and no network is "
        "known, the default is all private ranges. [default: the private network of its address, and loopback]",
    ] = None
    private_hostnames: Annotated[
        Hostnames,
        "A name by which neighbours call the private side. IP addresses, localhost and the names of this host need "
        "none. May be repeated. With it the private side answers other names with 421; without it only the pages "
        "of duallisten do.",
    ] = ()
    private_missing: Annotated[
        Literal["auto", "fail", "loopback", "later"],
        "What to do without a private address. fail: do not start; loopback: bind to 127.0.0.1; later: serve the "
        "public side at once and open the private one when the address appears. auto: fail where the platform promises "
        "one, with --fence port, and where PORT is set on no known platform; else loopback.",
    ] = "auto"
    private_wait: Annotated[
        Seconds,
        "Wait for the private address. At most this long; then --private-missing decides. "
        "[default: the platform's, else 0]",
    ] = None
    private_linger: Annotated[
        Seconds,
        "How long the private side accepts after the stop signal. For neighbours who still have its address: a "
        "platform's default is as long as private names are cached there. At most half of "
        "--timeout-graceful-shutdown. [default: the platform's, else 0]",
    ] = None
    public_linger: Annotated[
        Seconds,
        "How long the public side accepts after the stop signal. For a balancer that is yet to hear of it; "
        "the private side goes on as long, and readyz says no. At most half of --timeout-graceful-shutdown. [default: "
        "the platform's, else 0]",
    ] = None
    fence: Annotated[
        Literal["auto", "address", "port"],
        "What tells private traffic from public. address: the local address of a connection. port: the port alone; "
        "whoever can reach the private one is admitted, if --private-allow has its address. auto: the platform's; else "
        "port where public traffic can reach no address but the private one, else address.",
    ] = "auto"
    side_door: Annotated[
        Literal["serve", "refuse"],
        "What neighbours get at the public port. serve: the public side; refuse: a closed connection. It holds for "
        "connections to a private address. Their forwarded headers are never believed. With --fence port there is no "
        "such address.",
    ] = "serve"
    platform: Annotated[
        str,
        _choice("auto", *NAMES)._replace(metavar="NAME"),
        "The platform whose defaults hold. auto: recognised by its own variables. Else "
        f"{', '.join(NAMES[:-1])} or none.",
    ] = "auto"
    private_paths: Annotated[
        Prefixes,
        "Hide this path and all below it on the public side. /internal hides /internal and /internal/x, not "
        "/internals. May be repeated.",
    ] = ()
    public_paths: Annotated[
        Prefixes,
        "Serve only this path and all below it on the public side. May be repeated; --private-path beats it.",
    ] = ()
    hidden_status: Annotated[Literal[404, 403], "The status of the answer to a hidden request."] = 404
    private_app: Annotated[
        Any,
        OptionSpec(readers.or_none(readers.application), "MODULE:ATTRIBUTE"),
        "An application of its own for the private side. Both are started and stopped, each once.",
    ] = None
    strict_routes: Annotated[
        Switch, "Refuse to start if a route has no side, or a rule no route. A rule or a mark gives a route its side."
    ] = False
    private_workers: Annotated[
        Count,
        "Processes that serve the private side alone. A public side that is busy or blocked does not delay it then, "
        "and --workers serve the public side. 0: the workers serve both.",
    ] = 0
    preload: Annotated[
        Switch,
        "Import the application once and fork the workers, for memory. Its import must start no thread and open no "
        "connection.",
    ] = False
    timeout_worker_stall: Annotated[
        Seconds,
        "Replace a worker whose loop is blocked this long. The stacks of its threads go to the log, then it is killed. "
        "It needs several workers. 0: never.",
    ] = 0.0
    limit_worker_memory: Annotated[
        Bytes,
        "Replace a worker with more resident memory. It serves until its successor does. Each worker's own limit "
        "is up to a tenth lower, at random. It needs several workers. 0: no limit.",
    ] = 0
    limit_worker_age: Annotated[
        float,
        OptionSpec(readers.seconds, "SECONDS"),
        "Replace a worker that is older. It serves until its successor does. Each worker's own limit is up to a tenth "
        "lower, at random. It needs several workers. 0: no limit.",
    ] = 0.0
    timeout_request_header: Annotated[
        Seconds,
        "Most time for the head of a request. For a TLS or a WebSocket handshake, too. 0: no limit.",
        WITH_TWIN,
    ] = 30.0
    timeout_request_body: Annotated[
        Seconds,
        "Most time between two reads of a request's body. Then its connection is closed. 0: no limit.",
        WITH_TWIN,
    ] = 60.0
    timeout_send: Annotated[
        Seconds,
        "Most time that a peer reads nothing of an answer. Then its connection is closed. 0: no limit.",
        WITH_TWIN,
    ] = 60.0
    max_head_size: Annotated[
        Bytes,
        "Largest head of a request, with its first line. A larger one is answered with 431. 0: no limit.",
        WITH_TWIN,
    ] = 65536
    max_head_fields: Annotated[
        Count, "Most header fields of a request. More are answered with 431. 0: no limit.", WITH_TWIN
    ] = 100
    max_body_size: Annotated[
        Bytes,
        "Largest body of a request, chunked or not. A larger one is answered with 413. 0: no limit.",
        WITH_TWIN,
    ] = 0
    limit_connections: Annotated[
        Count,
        "Most open connections of a listener. In each process; further ones wait in the kernel's queue. 0: no limit.",
        WITH_TWIN,
    ] = 0
    limit_connections_per_peer: Annotated[
        Count,
        "Most open connections from one peer. Of a listener, in each process; further ones are closed. 0: no limit.",
        WITH_TWIN,
    ] = 0
    proxy_protocol: Annotated[
        Switch,
        "Require the PROXY protocol. Each connection must begin with its header, version 1 or 2, and come from a proxy "
        "that --forwarded-allow-ips names, or a platform's; any other connection is closed.",
        WITH_TWIN,
    ] = False
    client_ip_header: Annotated[
        str | None,
        OptionSpec(readers.or_none(readers.header), "NAME"),
        "The header in which trusted proxies name the client. No other is read. It is X-Forwarded-For, Forwarded (RFC "
        "7239), or one that has a single address, such as X-Real-IP. [default: the platform's, else X-Forwarded-For]",
        WITH_TWIN,
    ] = None
    private_health: Annotated[
        str | None,
        OptionSpec(readers.or_none(readers.own_path), "PREFIX"),
        "Serve livez, readyz, startupz and status on the private side. The first three are for probes, the "
        "last is a page for a person. [default: off]",
    ] = None
    public_health: Annotated[
        str | None,
        OptionSpec(readers.or_none(readers.own_path), "PATH"),
        "Answer here whether the public side is ready. With 200 or 503 and no more, for platforms that probe "
        "$PORT. [default: off]",
    ] = None
    health_stall: Annotated[
        float,
        OptionSpec(readers.duration, "SECONDS"),
        "livez fails if an event loop is blocked this long. The process counts as not ready, too.",
    ] = 10.0
    private_metrics: Annotated[
        str | None,
        OptionSpec(readers.or_none(readers.own_path), "PATH"),
        "Serve metrics of both sides on the private one. For Prometheus. [default: off]",
    ] = None
    control: Annotated[
        str | None,
        OptionSpec(readers.or_none(readers.socket_path), "PATH"),
        "Open a UNIX socket for python -m duallisten.control. That shows how a launch stands and tells it what to do. "
        "The socket is for this user alone. [default: off]",
    ] = None
    log_format: Annotated[
        Literal["text", "json"],
        "What log lines look like. text: as uvicorn's; json: one object a line, for access and errors alike, with a "
        "request id.",
    ] = "text"
    log_slow_requests: Annotated[
        float | None,
        OptionSpec(readers.or_none(readers.duration), "SECONDS"),
        "Log a request that takes this long, and where its task waits. It is logged again when it ends. [default: off]",
    ] = None
    request_id_header: Annotated[
        str | None,
        OptionSpec(readers.or_none(readers.header), "NAME"),
        "The request header with the request's id. Believed of a trusted peer; other requests get an id here. "
        "With --log-format json the default is the platform's, else X-Request-ID. [default: no ids]",
    ] = None
    register: Annotated[
        str | None,
        OptionSpec(readers.or_none(readers.text), "VARIABLE"),
        "Register this service in Redis or PostgreSQL. Others find it there. VARIABLE is the name of a variable that "
        "holds its URL, redis://, rediss:// or postgresql://, or the URL. It needs duallisten[redis] or "
        "duallisten[postgres]. [default: off]",
    ] = None
    service: Annotated[
        str | None,
        OptionSpec(readers.or_none(readers.text), "NAME"),
        "Name of this service in the registry. It must be given where the platform has none. [default: the platform's]",
    ] = None


@cache
def own_options() -> tuple[Option, ...]:
    """Return every field of `Options` as an `Option`, and the private listener's twins."""
    options: list[Option] = []
    for name, annotation in Options.__annotations__.items():
        kind, *marks = get_args(annotation)
        spec = marks.pop(0) if isinstance(marks[0], OptionSpec) else _choice(*get_args(kind))
        key = (name.removesuffix("s") if spec.kind == "list" else name).replace("_", "-")  # one flag per item
        options.append(
            Option(
                name=name,
                flag=f"--{key}",
                off_flag=f"--no-{key}" if spec.kind == "switch" else None,
                kind=spec.kind,
                read=spec.read,
                variables=own_variables(key, name),
                default=Options._field_defaults[name],
                help=marks[0],
                metavar=spec.metavar,
                choices=spec.choices,
                split=readers.split_list,
            )
        )
        if WITH_TWIN in marks:
            options.append(private_twin(options[-1], "the public value" if is_inherited(name) else "off"))
    return tuple(options)


def all_options() -> tuple[Option, ...]:
    """Return all options of the command line, ours and uvicorn's, in the order of `--help`."""
    theirs, ours = uvicorn_options(), own_options()
    names = {option.name for option in ours}
    twins = (
        private_twin(option, "the public value" if is_inherited(option.name) else "off")
        for option in theirs
        if is_per_listener(option.name)
    )
    return (*ours, *twins, *(option for option in theirs if option.name not in names))


def uvicorn_twins() -> dict[str, str]:
    """Return the keywords for the private listener's own values of uvicorn's options, each with uvicorn's name."""
    return {f"private_{name}": name for name in uvicorn_defaults() if is_per_listener(name)}


def with_positional(positional: Sequence[Any], keywords: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the keyword arguments of `Config` with the positional ones, which are uvicorn's options in its order.

    Raises:
        TypeError: There are too many positional ones, or one is also given by keyword.
    """
    names = list(uvicorn_defaults())[: len(positional)]
    if len(positional) > len(names):
        raise TypeError(f"Config takes the application and at most {len(names)} positional arguments")
    for name in names:
        if name in keywords:
            raise TypeError(f"Config got multiple values for argument {name!r}")
    return {**dict(zip(names, positional, strict=True)), **keywords}


def split_keywords(keywords: Mapping[str, Any]) -> tuple[Options, dict[str, Any], dict[str, Any]]:
    """Split the keyword arguments of `Config` into duallisten's, the private listener's and uvicorn's.

    Returns:
        duallisten's own options, read; the private listener's values, by the public name; uvicorn's options.

    Raises:
        TypeError: A name is unknown.
        UsageError: A value of one of duallisten's options cannot be read.
    """
    ours, theirs = {option.name: option for option in own_options()}, uvicorn_defaults()
    twins = uvicorn_twins()
    own: dict[str, Any] = {}
    private: dict[str, Any] = {}
    given: dict[str, Any] = {}
    for name, value in keywords.items():
        if name in ours and (public := ours[name].twin_of):
            private[public] = None if value is None else _read(ours[name], value)
        elif name in ours:
            own[name] = _read(ours[name], value)
        elif name in twins:
            private[twins[name]] = value
        elif name in theirs:
            given[name] = _read_uvicorn_s(name, value)
        else:
            raise TypeError(f"unknown option {name!r}{nearest(name, (*ours, *twins, *theirs))}")
    return Options(**own), private, given


def _read_uvicorn_s(name: str, value: Any) -> Any:
    """Read values that `uvicorn.Config` itself does not take: a port as a string, and several hosts."""
    reader = None
    if name == "port" and isinstance(value, str):  # asyncio reads it for uvicorn
        reader = readers.port
    elif name == "host" and value is not None:
        reader = readers.hosts
    try:
        return value if reader is None else reader(value)
    except ValueError as error:
        raise UsageError(f"{name}={value!r}: {error}") from None


def _read(option: Option, value: Any) -> Any:
    try:
        return option.read(value)
    except ValueError as error:
        shown = NOT_SHOWN if is_secret(option.name) else repr(value)
        raise UsageError(f"{option.name}={shown}: {error}") from None
