"""Makes `docs/reference/platforms.md` from the data in `duallisten/config/platforms/`.

python -m tests.contracts.platforms
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from duallisten.config.platforms import NONE, Platform, every
from duallisten.config.platforms.recognition import RULES
from duallisten.net import join

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "platforms.md"

HEAD = """# Platforms

<!-- Made from `src/duallisten/config/platforms/` by `python -m tests.contracts.platforms`, and not to be edited. -->

duallisten recognises a platform by its variables and takes the defaults that fit it. `--platform NAME` says which one
it is, `--platform none` that it is none; `--check` shows what was recognised and where each value comes from. Every
value can be given as an option, which then holds.

- **Private side**: by *address* the private listener has an address that public traffic does not come to. By *port*
  both come to one address, and the private listener has a port of its own, 9240 by default. Where there is *none* the
  public side is served alone.
- **Public port**: `$PORT` where it is set, else the number, at 0.0.0.0; 8000 is uvicorn's own. Without either it is
  127.0.0.1:8000, which nothing reaches from outside the container.
- **Believed**: whose forwarded headers are believed on the public side, if neither `--forwarded-allow-ips` nor your own
  `FORWARDED_ALLOW_IPS` says otherwise. *Its routers*: all that comes in from outside does so through them. *This host*:
  loopback alone, as with uvicorn, because others can reach the public port, or it is not known who can.
- **Grace**: from the stop signal to `SIGKILL`. Requests have two thirds of it by default
  (`--timeout-graceful-shutdown`).
- **Linger**: how long the public and the private side go on accepting after the stop signal.
- **Routers' idle**: how long a router keeps an idle connection. The default of `--timeout-keep-alive` is 15 s more.

A star \\* marks what is inferred and not documented. Where it is not known who else reaches the public port, nobody is
believed.

"""

COLUMNS = ("platform", "recognised by", "private side", "public port", "believed", "grace", "linger", "routers' idle")

MEANING = {
    "exports_trust": "whether it exports `FORWARDED_ALLOW_IPS`",
    "fence": "what tells the sides apart",
    "grace": "the grace",
    "has_private": "that there is no private network",
    "hostname_variable": "the variable with its name",
    "instance_variable": "the variable that tells instances apart",
    "is_routed": "who is believed",
    "keep_alive": "how long a router keeps an idle connection",
    "port": "the port",
    "private_dns_ttl": "how long the private side lingers",
    "private_domain": "the domain of its names",
    "private_interfaces": "the interface",
    "private_networks": "the networks",
    "public_linger": "how long the public side lingers",
    "request_id_header": "the header of request ids",
    "routers": "where the routers come from",
    "sets_concurrency": "whether it sets `WEB_CONCURRENCY`",
    "version_variable": "the variable that tells deployments apart",
}
"""What an attribute says, for each that is inferred somewhere."""


def text() -> str:
    """Return what the page should be."""
    platforms = sorted((one for one in every() if one is not NONE), key=lambda one: one.title.lower())
    lines = [_row(COLUMNS), _row(("---",) * len(COLUMNS)), *(_row(_cells(one)) for one in platforms), ""]
    for platform in platforms:
        lines += _section(platform)
    return HEAD + "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(platform: Platform) -> tuple[str, ...]:
    def starred(value: str, *attributes: str) -> str:
        return value + (" \\*" if {*attributes} & {*platform.inferred} else "")

    lingers = {"public": platform.public_linger, "private": platform.private_dns_ttl}
    linger = ", ".join(f"{side} {_seconds(seconds)}" for side, seconds in lingers.items() if seconds)
    return (
        f"{platform.title}: [`{platform.name}`](#{platform.name})",
        _marks(platform),
        starred(_private(platform), "has_private", "fence", "private_networks", "private_interfaces"),
        starred(_port(platform), "port"),
        starred(_believed(platform), "is_routed", "routers", "client_header"),
        starred(_grace(platform), "grace"),
        starred(linger, "public_linger", "private_dns_ttl") if linger else "",
        starred(_seconds(platform.keep_alive), "keep_alive") if platform.keep_alive else "",
    )


def _marks(platform: Platform) -> str:
    rules = [marks for name, *marks in RULES if name == platform.name]
    least = [rule for rule in rules if not any({*other} < {*rule} for other in rules)]
    return "<br>or ".join(" + ".join(f"`{mark}`" for mark in rule) for rule in least) or "`--platform` alone"


def _private(platform: Platform) -> str:
    if not platform.has_private:
        return "none"
    fence = {"auto": "by address, else by port", "address": "by address", "port": "by port"}[platform.fence]
    where = [f"`{network}`" for network in platform.private_networks]
    where += [f"`${variable}`" for variable in (*platform.private_variables, platform.hostname_variable) if variable]
    where += [f"on `{interface}`" for interface in platform.private_interfaces]
    return ": ".join(filter(None, (fence, ", ".join(where))))


def _port(platform: Platform) -> str:
    types = ", ".join(f"`{one}`" for one in platform.public_process_types)
    return (f"`$PORT`, else {platform.port}" if platform.port else "`$PORT`") + (f", in {types}" if types else "")


def _believed(platform: Platform) -> str:
    if not platform.is_routed:
        return "this host"
    types = ", ".join(f"`{one}`" for one in platform.routed_process_types)
    what = f"`{platform.client_header}`" if platform.client_header else "right-most entry"
    if platform.routers:
        what += f" outside {join(platform.routers)}"
    return f"its routers{f' in {types}' if types else ''}: {what}"


def _grace(platform: Platform) -> str:
    signal = "" if platform.stop_signal == "SIGTERM" else f" after {platform.stop_signal}"
    return f"{_seconds(platform.grace)}{signal}" if platform.grace else ""


def _seconds(seconds: float) -> str:
    return f"{seconds:g} s"


def _section(platform: Platform) -> Iterator[str]:
    yield from (f"## {platform.name}", "", f"{platform.title}.", "")
    facts = [*platform.notes, *_facts(platform)]
    if platform.inferred:
        facts.append(f"Inferred: {', '.join(MEANING[name] for name in platform.inferred)}.")
    yield from (f"- {fact}" for fact in facts)
    sources = (source.partition(" ") for source in platform.sources)
    yield "- Sources: " + ", ".join(f"<{address}>{space}{rest}" for address, space, rest in sources) + "."
    yield ""


def _facts(platform: Platform) -> Iterator[str]:
    """What a table has no room for, a sentence each."""
    if platform.exports_trust:
        yield "It exports `FORWARDED_ALLOW_IPS` itself, which is not taken for your word: give `--forwarded-allow-ips`."
    if platform.request_id_header:
        own = "" if platform.is_request_id_own else ", which a client may have chosen"
        yield f"Its routers give a request its id in `{platform.request_id_header}`{own}."
    if platform.probes:
        how = {"http": "an answer over HTTP", "tcp": "the first connection"}[platform.probes]
        yield f"A container is ready with {how} on the public port."
    if platform.sets_concurrency:
        yield "It sets `WEB_CONCURRENCY`, so several workers are usual."
    if platform.barred_ports:
        yield f"It keeps these ports for itself: {', '.join(map(str, platform.barred_ports))}."
    if platform.grace_setting:
        yield f"The grace is set by {platform.grace_setting}."


if __name__ == "__main__":
    PAGE.write_text(text())
