"""The picture of `--check`: what it prints for a small shop on Scalingo, in network namespaces, as SVG.

    .venv/bin/python docs/tools/check_picture.py

It needs root and iproute2, and writes `docs/images/check.svg`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.sax.saxutils import escape

DOCS = Path(__file__).parents[1]
SHOP = (DOCS / "tutorial.md").read_text().partition("```python\n")[2].partition("```")[0]

SCRIPT = """
ip link set lo up
ip link add private type veth peer name neighbour && ip addr add 10.240.0.5/22 dev private && ip link set private up
ip link add public type veth peer name router && ip addr add 172.17.0.5/16 dev public && ip link set public up
exec "$@"
"""

PLACE = {
    "PORT": "5000",
    "APP": "shop",
    "CONTAINER": "web-1",
    "SCALINGO_APPLICATION_ID": "ap-1",
    "SCALINGO_PRIVATE_NETWORK_ID": "pn-1",
}

ROW, CHARACTER, MARGIN = 17, 7.85, 14


def main() -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "shop.py").write_text(SHOP)
        command = [sys.executable, "-m", "duallisten", "shop:app", "--check"]
        ended = subprocess.run(
            ["unshare", "--net", "sh", "-c", SCRIPT, "sh", *command],
            cwd=folder,
            env={"PATH": os.environ["PATH"], **PLACE},
            capture_output=True,
            text=True,
            check=True,
        )
    lines = ["$ duallisten shop:app --check", *ended.stdout.splitlines()]
    (DOCS / "images" / "check.svg").write_text(drawn(lines), encoding="utf-8")


def drawn(lines: list[str]) -> str:
    """Draw lines as a terminal shows them, dark in light and dark surroundings alike."""
    width, height = max(map(len, lines)) * CHARACTER + 2 * MARGIN, len(lines) * ROW + 2 * MARGIN
    texts = (
        f'<text x="{MARGIN}" y="{MARGIN + ROW * number + 13}" xml:space="preserve" '
        f'textLength="{len(line) * CHARACTER:.1f}">{escape(line)}</text>'
        for number, line in enumerate(lines)
        if line
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}">'
        "<title>What duallisten shop:app --check prints on Scalingo</title>"
        f'<rect width="{width:.0f}" height="{height}" rx="6" fill="#1f2933"/>'
        '<g font-family="ui-monospace, monospace" font-size="13" fill="#d9e2ec">' + "".join(texts) + "</g></svg>\n"
    )


if __name__ == "__main__":
    main()
