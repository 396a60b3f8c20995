"""The page of a table's series: what came each day, what was expected, and what departed."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from granary.monitoring.anomalies.plot import svg
from granary.monitoring.anomalies.records import lines
from granary.pages.html import BASE, policy, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from granary.monitoring.anomalies.observe import Key
    from granary.monitoring.anomalies.plot import Drawn
    from granary.monitoring.anomalies.records import Anomaly

STYLE = """
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr));gap:1rem}
figure{margin:0;padding:.75rem;background:var(--card);border:1px solid var(--line);border-radius:.4rem}
figcaption{font-weight:600;overflow-wrap:anywhere}figure.out{border-color:var(--much)}svg{width:100%;height:auto}
"""


def page(table: str, series: Mapping[Key, Sequence[Drawn]], found: Sequence[Anomaly]) -> str:
    """Return the page; series with open anomalies come first."""
    unusual = {one.key for one in found}
    keys = sorted(series, key=lambda key: (key not in unusual, key))
    figures = "".join(
        f"<figure{' class=out' if key in unusual else ''}><figcaption>{escape(' '.join(key).strip())}</figcaption>"
        f"{svg(series[key], key)}</figure>"
        for key in keys
        if series[key]
    )
    said = "".join(f"<p>{escape(words)}</p>" for words in lines(found)) or "<p>Nothing is unusual.</p>"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(table)}: what came</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy()}">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{BASE}{STYLE}</style></head>'
        f"<body><header><h1>{escape(table)}</h1>{said}<p>The area is what the days before made expected; a dot is a"
        f" value out of it.</p></header><main>{figures}</main></body></html>"
    )


def write_page(path: Path, table: str, series: Mapping[Key, Sequence[Drawn]], found: Sequence[Anomaly]) -> None:
    """Write the page of a table."""
    write(path, page(table, series, found))
