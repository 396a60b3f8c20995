"""The worked examples in the guides to kinds of sources, as modules that run."""

from __future__ import annotations

import re
import shlex
from string import Template
from typing import TYPE_CHECKING, Any

from granary.load import api as load
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    import pytest

    from granary.sources.spec import Source, Table

PAGES = PROJECT / "docs" / "engine" / "sources"


def example(page: str, patch: pytest.MonkeyPatch, **settings: str) -> Source:
    """Return the source that a guide declares, known to loads by its name, with these settings in the environment."""
    source: Source = _names(page)["SOURCE"]
    patch.setattr(load, "SOURCES", {source.name: source})
    for name, value in settings.items():
        patch.setenv(name, value)
    return source


def table(page: str, name: str) -> Table:
    """Return a table that a guide declares beside its source."""
    found: Table = _names(page, name)[name]
    return found


def request(page: str, heading: str, **variables: str) -> tuple[str, dict[str, str], bytes]:
    """Return the path, the headers and the body of the request that a guide sends by curl below a heading."""
    (text,) = re.findall(r"```bash\ncurl (.*?)```", _section(page, heading), re.DOTALL)
    words = shlex.split(Template(text).safe_substitute(variables))
    (url,) = [word for word in words if word.startswith("http://")]
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    return re.sub(r"^http://[^/]*", "", url), headers, words[words.index("--data") + 1].encode()


def row(page: str, heading: str) -> dict[str, str]:
    """Return the one row that a guide shows in the first table below a heading."""
    names, _, values = re.findall(r"^\|(.*)\|$", _section(page, heading), re.MULTILINE)[:3]
    return dict(zip(*([cell.strip() for cell in line.split("|")] for line in (names, values)), strict=True))


def _section(page: str, heading: str) -> str:
    return (PAGES / f"{page}.md").read_text().partition(f"# {heading}\n")[2].partition("\n## ")[0]


def _names(page: str, more: str = "") -> dict[str, Any]:
    """Return what a guide's module defines, and the block that defines one name more."""
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", (PAGES / f"{page}.md").read_text(), re.DOTALL)
    (module,) = [block for block in blocks if "SOURCE = " in block]
    for block in (module, *(block for block in blocks if more and f"\n{more} = " in block)):
        exec(compile(block, f"{page}.md", "exec"), names)
    return names
