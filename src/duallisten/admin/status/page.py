"""The status page as HTML: `status.html` is how it looks, and this is what is filled in. Pure.

What it must never do:

- let anything that came from the application or the host be taken for HTML: all that is filled in is escaped here, in
  one pass over the template, and the page's script writes text only;
- ask for anything from elsewhere, or run what is not ours: the page's policy (Content-Security-Policy, level 3) allows
  its own style sheet and script, by their hashes, and its own events.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from html import escape
from typing import NamedTuple

from duallisten.admin.status.figures import Status
from duallisten.admin.status.text import rows, texts
from duallisten.endpoints.routes import COLUMNS, AppRoutes, cells
from duallisten.listeners.report import ListenerReport, Report


class PageContext(NamedTuple):
    """What does not change while a page is looked at.

    urls: where each side is served
    """

    version: str
    report: Report
    urls: tuple[tuple[str, str], ...]
    sections: tuple[AppRoutes, ...]


class Chart(NamedTuple):
    """A chart that each side has.

    lines: the figure that each of its lines shows, with its name
    """

    name: str
    unit: str
    lines: tuple[tuple[str, str], ...]


CHARTS = (
    Chart("Requests", "/s", (("rate", "answered"),)),
    Chart("Failures", "%", (("client_errors", "4xx"), ("server_errors", "5xx"))),
    Chart("Latency", "s", (("median", "median"), ("p99", "99th percentile"))),
    Chart("Connections", "", (("open", "open"), ("in_flight", "requests in flight"))),
)

COUNTS = (
    ("requests", "requests"),
    ("aborted", "aborted"),
    ("bad", "malformed"),
    ("hidden", "hidden by rules"),
    ("refused", "refused"),
    ("websockets", "WebSockets open"),
)
"""What is counted since the launch began, and what each figure is called."""

PROCESSES = ("process", "state", "sides", "event loop turned", "up for")


def fill_in(template: str, facts: PageContext, status: Status, time: str) -> str:
    """Build the page.

    time: when that is, in words
    """
    told = {name: escape(text) for name, text in texts(status).items()}
    report = facts.report
    parts = {name.upper(): text for name, text in told.items()} | {
        "EDITION": edition(facts),
        "APPLICATION": escape(report.application),
        "VERSION": escape(facts.version),
        "PLACE": escape(_place(report)),
        "TIME": escape(time),
        "SIDES": "".join(_side(listener, facts, told) for listener in report.listeners),
        "PROCESS_COLUMNS": _heads(PROCESSES),
        "PROCESSES": "".join(_row(row, "stuck" if row[1] == "stuck" else "") for row in rows(status)),
        "ROUTES": "".join(_section(number, section) for number, section in enumerate(facts.sections)),
        "NOTES": "".join(f"<p>{escape(note)}.</p>" for note in report.notes),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def edition(facts: PageContext) -> str:
    """Return what tells a page from another that shows other facts, such as after a deployment."""
    return sha256(repr(facts).encode()).hexdigest()[:12]


def policy(template: str) -> str:
    """Return the policy under which the page is shown."""
    style, script = (_hash(template, element) for element in ("style", "script"))
    return (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(template: str, element: str) -> str:
    """Return the hash of an element's content, as a policy names it."""
    content = template.partition(f"<{element}>")[2].partition(f"</{element}>")[0]
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"


def _place(report: Report) -> str:
    platform = f" on {report.platform}" if report.platform != "none" else ""
    return platform + (f", process type {report.process_type}" if report.process_type else "")


def _side(listener: ListenerReport, facts: PageContext, told: Mapping[str, str]) -> str:
    """Show a side.

    told: texts, escaped
    """
    side = listener.side
    urls = ", ".join(url for one, url in facts.urls if one == side) or listener.address
    about = {
        "admits": listener.peers_admitted,
        "believes forwarded headers of": listener.proxies_trusted,
        "TLS": listener.tls,
        "endpoint set": listener.endpoint_set,
        "workers": listener.workers,
        "set by": listener.origin,
    }
    details = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in about.items())
    counts = "".join(
        f'<div><dt>{name}</dt><dd id="{side}-{key}">{told.get(f"{side}-{key}", "")}</dd></div>' for key, name in COUNTS
    )
    over = f'<span id="{side}-seconds">{told.get(f"{side}-seconds", "")}</span>'
    return (
        f'<section class="{side}" aria-labelledby="{side}">'
        f'<h2 id="{side}">{side.capitalize()} side <code>{escape(urls)}</code></h2>'
        f'<div class="charts">{"".join(_chart(side, chart, told) for chart in CHARTS)}</div>'
        f'<p class="faint small">Rates and latencies are of the last {over}; the counts below, since the launch.</p>'
        f'<dl class="counts">{counts}</dl><dl>{details}</dl></section>'
    )


def _chart(side: str, chart: Chart, told: Mapping[str, str]) -> str:
    keys = ("key", "key second")
    values = "".join(
        f'<span><i class="{keys[number]}"></i>{name} <b id="{side}-{line}">{told.get(f"{side}-{line}", "")}</b></span>'
        for number, (line, name) in enumerate(chart.lines)
    )
    lines = " ".join(line for line, _ in chart.lines)
    return (
        f'<figure class="{chart.name.lower()}" data-side="{side}" data-name="{chart.name}" data-lines="{lines}" '
        f'data-unit="{chart.unit}"><figcaption><span class="name">{chart.name}</span>{values}</figcaption>'
        '<div class="scale top" aria-hidden="true"></div>'
        f'<svg viewBox="0 0 300 60" preserveAspectRatio="none" role="img" aria-label="{chart.name}"></svg>'
        '<div class="scale" aria-hidden="true"><span class="since"></span><span>now</span></div></figure>'
    )


def _section(number: int, section: AppRoutes) -> str:
    """Show the routes of an application."""
    name = f"Routes of {section.application}"
    where = f"On the {' and the '.join(section.sides)} side."
    if "public" in section.sides and (section.rules.hide_something or section.routes is None):
        where += f" The public side serves: {section.rules}."
    if section.routes is None:
        where += " They cannot be read: not a Starlette, FastAPI or Django application."
    body = "".join(_row(cells(reached)) for reached in section.routes or ())
    table = f"<thead><tr>{_heads(COLUMNS)}</tr></thead><tbody>{body}</tbody>" if body else ""
    return (
        f'<section aria-labelledby="routes-{number}"><h2 id="routes-{number}">{escape(name)}</h2>'
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="routes-{number}">'
        f"<table><caption>{escape(where)}</caption>{table}</table></div></section>"
    )


def _heads(names: Iterable[str]) -> str:
    return "".join(f'<th scope="col">{escape(name)}</th>' for name in names)


def _row(row: Iterable[str], kind: str = "") -> str:
    columns = "".join(f"<td>{escape(cell)}</td>" for cell in row)
    return f'<tr class="{kind}">{columns}</tr>' if kind else f"<tr>{columns}</tr>"
