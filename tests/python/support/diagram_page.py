"""The diagram of docs/marts/diagram.md, made from the tests; `python -m tests.python.support.documents` writes it.

For those who read the project on a code host, which draws Mermaid; the documentation site has the whole.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from granary.dbt import manifest as dbt_manifest
from granary.dbt.column_lineage import ColumnGraph
from granary.pages.docs.marts import marts
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from granary.pages.docs.marts import Join, Mart
    from granary.warehouse.settings import Settings

PAGE = PROJECT / "docs" / "marts" / "diagram.md"
BETWEEN = re.compile(r"(?<=<!-- made from the tests -->\n)[\s\S]*?(?=<!-- until here -->)")


def diagram(manifest: Mapping[str, Any]) -> str:
    """Return the facts and dimensions with their keys and what a test of their own joins, as Mermaid."""
    found = marts(manifest, {"nodes": {}}, ColumnGraph({}, frozenset()))
    core = [mart for mart in found if mart.is_fact or mart.is_dimension]
    lines = [line for mart in core for line in _lines(mart)]
    return "\n```mermaid\nerDiagram\n" + "\n".join(f"    {line}" for line in lines) + "\n```\n\n"


def write(settings: Settings) -> None:
    """Put the diagram into the page."""
    made = diagram(dbt_manifest.load(dbt_manifest.prepare(settings)))
    PAGE.write_text(BETWEEN.sub(lambda _: made, PAGE.read_text()))


def _lines(mart: Mart) -> Sequence[str]:
    joins = {join.column for join in mart.joins}
    marks = {(True, True): " PK, FK", (True, False): " PK", (False, True): " FK"}
    shown = [(one, (one.name in mart.grain, one.name in joins)) for one in mart.fields]
    return (
        f"{mart.name} {{",
        *(f"    {one.type.replace(' ', '_')} {one.name}{marks[which]}" for one, which in shown if any(which)),
        "}",
        *(f"{mart.name} {_ends(join)} {join.mart} : {join.column}" for join in mart.joins),
    )


def _ends(join: Join) -> str:
    return f"{'|o' if join.is_single else '}o'}--{'||' if join.is_one else 'o{'}"
