"""Writes the pages into the folder where dbt left its documentation."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from granary.dagster.links import DAGSTER, DASHBOARD
from granary.dbt.column_lineage import column_graph
from granary.pages.docs import diagram, lineage
from granary.pages.docs.frame import LINEAGE, MARTS
from granary.pages.docs.marts import marts
from granary.pages.html import write

if TYPE_CHECKING:
    from pathlib import Path

    from granary.dagster.links import Links

NAMES = (MARTS, LINEAGE)


def write_pages(folder: Path, links: Links) -> None:
    """Write the pages, and put the configured addresses into dbt's own.

    `folder` holds what `dbt docs generate --static` wrote.
    """
    manifest = json.loads((folder / "manifest.json").read_bytes())
    catalog = json.loads((folder / "catalog.json").read_bytes())
    graph = column_graph(manifest, catalog)
    write(folder / MARTS, diagram.page(marts(manifest, catalog, graph), links))
    write(folder / LINEAGE, lineage.page(manifest, catalog, graph, links))
    index = folder / "static_index.html"
    write(index, _moved(index.read_text(encoding="utf-8"), links))


def _moved(text: str, links: Links) -> str:
    """Return dbt's page with the addresses that it has from the project's files as they are configured.

    They are within JSON there. Where there is to be no link, it leads to where it is: dbt's page has no place for none.
    """
    for usual, now in ((DASHBOARD, links.page("")), (DAGSTER, links.dagster)):
        to = json.dumps(now)[1:-1].replace("\\", r"\\")
        text = re.sub(re.escape(usual) + r"([\w.]*)", rf"{to}\1" if to else "#!/overview", text)
    return text
