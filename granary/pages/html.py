"""What our pages share: how they look, a policy that lets nothing run but their own script, links to neighbours."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from granary.dagster.links import Links

BASE = """
:root{color-scheme:light dark;--ink:#1d2430;--quiet:#5c6675;--paper:#fff;--card:#f5f7f9;--line:#dde2e8;--bar:#2f6f9f;
--some:#8a5a00;--much:#b3261e;--somebg:#fff3d6;--muchbg:#fde7e5}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaf0;--quiet:#9aa5b4;--paper:#14181d;--card:#1c2229;--line:#313a45;
--bar:#6db3e2;--some:#ffce73;--much:#ff9d94;--somebg:#3a2f14;--muchbg:#43201d}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
header,main{max-width:76rem;margin:0 auto;padding:1rem 1.25rem}
h1{font-size:1.6rem;margin:.5rem 0 0}h2{font-size:1.2rem;margin:0;overflow-wrap:anywhere}
h3{font-size:1rem;margin:1rem 0 .25rem}
p{margin:.25rem 0;color:var(--quiet)}code{font-size:.9em;color:var(--ink)}a{color:var(--bar)}
"""


def policy(script: str = "", *, beside: bool = False) -> str:
    """Return a content security policy under which this script runs and nothing else, and nothing is loaded.

    With `beside` it is a script from a file beside the page. (A hash would not do: browsers refuse to check one of a
    file that is opened from a disk.)
    """
    code = f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" if script else "'none'"
    code = "'self'" if beside else code
    return f"default-src 'none'; script-src {code}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def embedded(content: Any) -> str:
    """Return JSON that no value can break out of: the parser sees no tag and no comment in it."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def elsewhere(name: str, places: dict[str, str]) -> str:
    """Return the links to neighbours, by what they are called; one without an address is left out."""
    items = "".join(f'<a href="{escape(address)}">{label}</a>' for label, address in places.items() if address)
    return f'<nav class="{name}" aria-label="Elsewhere">{items}</nav>' if items else ""


def when(links: Links, *names: str) -> str:
    """Return a sentence on the links to neighbours on this machine: they need these to be served."""
    commands = " and ".join(f"<code>{command}</code>" for command in links.commands(*names))
    return f" Links to 127.0.0.1 need {commands} to be running." if commands else ""


def write(path: Path, text: str) -> None:
    """Write a page in the place of an earlier one; nobody reads half of it."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
