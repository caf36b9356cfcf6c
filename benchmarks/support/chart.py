"""The chart: requests a second of each server beside uvicorn, with the access log on and off, as an SVG.

Bars are medians, with a line from the smallest to the largest round. It has no ground, and colours that can be read
on a light page and on a dark one; and no script, font or picture from elsewhere.
"""

from __future__ import annotations

from html import escape
from statistics import median

from support.findings import Findings
from support.throughput import Throughput, rate_ratios

WIDTH, LABEL, BAR, GAP, TOP = 860, 190, 18, 9, 64
OURS, THEIRS, INK = "#00897b", "#a3a9b5", "#7a8590"


def draw(findings: Findings) -> str:
    """Draw the first two works beside each other."""
    works = list(findings.throughput.items())[:2]
    height = TOP + max(len(found) for _, found in works) * (BAR + GAP) + 24
    width = (WIDTH - LABEL) // 2
    panels = "".join(_panel(title, found, LABEL + number * width, width) for number, (title, found) in enumerate(works))
    names = "".join(
        f'<text x="{LABEL - 8}" y="{_middle(row) + 4}" text-anchor="end" fill="{INK}">{escape(name)}</text>'
        for row, name in enumerate(works[0][1])
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="Requests a second beside uvicorn" font-family="system-ui, sans-serif" font-size="12">'
        f'<text x="16" y="24" font-size="14" font-weight="600" fill="{INK}">Requests a second, uvicorn = 1</text>'
        f"{names}{panels}</svg>\n"
    )


def _panel(title: str, found: Throughput, left: int, width: int) -> str:
    """Draw one work: a bar for each server."""
    ratios = {name: rate_ratios(found, name, "uvicorn") for name in found}
    scale = (width - 60) / max(max(values) for values in ratios.values())
    parts = [f'<text x="{left}" y="{TOP - 14}" fill="{INK}">{escape(title)}</text>']
    for row, (name, values) in enumerate(ratios.items()):
        middle = _middle(row)
        length, low, high = (value * scale for value in (median(values), min(values), max(values)))
        colour = OURS if name.startswith("duallisten") else THEIRS
        parts += [
            f'<rect x="{left}" y="{middle - BAR / 2}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>',
            f'<line x1="{left + low:.1f}" x2="{left + high:.1f}" y1="{middle}" y2="{middle}" stroke="{INK}" '
            f'stroke-width="2"/>',
            f'<text x="{left + high + 6:.1f}" y="{middle + 4}" fill="{INK}">{median(values):.2f}</text>',
        ]
    return "".join(parts)


def _middle(row: int) -> float:
    return TOP + row * (BAR + GAP) + BAR / 2
