"""What our pages of the documentation share: head, policy, navigation."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from granary.pages.html import BASE, elsewhere, policy, when

if TYPE_CHECKING:
    from granary.dagster.links import Links

HERE = Path(__file__).parent
MARTS, LINEAGE = "marts.html", "lineage.html"
PAGES = (("Models", "static_index.html"), ("Marts", MARTS), ("Column lineage", LINEAGE), ("Profiles", "profiles.html"))


def frame(name: str, title: str, lead: str, body: str, links: Links, script: str = "", data: str = "") -> str:
    """Return a whole page; `lead` and `body` are HTML. Its policy lets no script run but this one, and nothing out."""
    style = BASE + (HERE / "page.css").read_text(encoding="utf-8")
    near = "".join(
        f'<a href="{file}"{" aria-current=page" if file == name else ""}>{label}</a>' for label, file in PAGES
    )
    far = elsewhere("far", {"Dashboard": links.dashboard, "Dagster": links.dagster})
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(script)}"><title>{title} · Granary</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        '<body><a class="skip" href="#main">To the content</a><header class="top"><strong>Granary</strong>'
        f'<nav aria-label="Documentation">{near}</nav>{far}</header>'
        f'<main id="main"><h1>{title}</h1><p class="lead">{lead}</p>{body}</main>'
        "<footer><p>Made from dbt's manifest and catalog. Nothing in this file loads anything from elsewhere."
        f"{when(links, 'dashboard', 'dagster')}</p></footer>"
        + (f'<script type="application/json" id="data">{data}</script>' if data else "")
        + (f"<script>{script}</script>" if script else "")
        + "</body></html>\n"
    )


def prose(text: str) -> str:
    """Return a description as HTML: text, with `code` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def model(unique_id: str) -> str:
    """Return the address of a node on the page of models."""
    return f"static_index.html#!/{unique_id.partition('.')[0]}/{unique_id}"
