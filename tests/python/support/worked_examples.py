"""The worked examples in the guides to kinds of sources, as modules that run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from granary.load import api as load
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    import pytest

    from granary.sources.spec import Source

PAGES = PROJECT / "docs" / "engine" / "sources"


def example(page: str, patch: pytest.MonkeyPatch, **settings: str) -> Source:
    """Return the source that a guide declares, known to loads by its name, with these settings in the environment."""
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", (PAGES / f"{page}.md").read_text(), re.DOTALL)
    (module,) = [block for block in blocks if "SOURCE = " in block]
    exec(compile(module, f"{page}.md", "exec"), names)
    source: Source = names["SOURCE"]
    patch.setattr(load, "SOURCES", {source.name: source})
    for name, value in settings.items():
        patch.setenv(name, value)
    return source
