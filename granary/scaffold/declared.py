"""What dbt's sources repeat of the contracts in ingestion/, since dbt reads no Python: it has to say the same.

Freshness, descriptions, tiers of personal data and data subjects are decided in the contract. A project's tests ask
`differences` whether models/staging/*/_*__sources.yml still repeats them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from granary.dbt.manifest_nodes import meta

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from granary.sources.spec import Source, Table

HOUR = timedelta(hours=1)
VIEW = "ops.freshness"
"""What says when a table last had something new, to dbt as to the engine (granary/load/freshness.py)."""
LATE, VERY_LATE = 1, 2
"""dbt warns when a table has waited for as long as its contract allows, and fails after twice that time."""


def freshness(allowed: timedelta) -> dict[str, Any]:
    """Return dbt's freshness of a table that may wait for so long; dbt counts whole hours."""
    hours = max(1, round(allowed / HOUR))
    return {
        "warn_after": {"count": LATE * hours, "period": "hour"},
        "error_after": {"count": VERY_LATE * hours, "period": "hour"},
    }


def differences(sources: Iterable[Source], manifest: Mapping[str, Any]) -> list[str]:
    """Return what dbt's sources say otherwise than the contracts, in a line each.

    A table that dbt does not know repeats nothing, and a column beyond the contract is dbt's own.
    """
    nodes = {(node["source_name"], node["name"]): node for node in manifest["sources"].values()}
    return [
        f"{source.name}.{table.name}{line}"
        for source in sources
        for table in source.tables
        if (node := nodes.get((source.name, table.name)))
        for line in (*_compare(": the source", source.description, node["source_description"]), *_of(table, node))
    ]


def _of(table: Table, node: Mapping[str, Any]) -> Iterator[str]:
    yield from _compare("", table.description, node["description"])
    if VIEW not in (node.get("loaded_at_query") or ""):
        yield f": its loaded_at_query does not ask {VIEW}"
    said = node.get("freshness") or {}
    for name, after in freshness(table.freshness).items():
        yield from _compare(f": {name}", _length(after), _length(said.get(name)))
    for column in table.columns:
        repeated = node["columns"].get(column.name)
        if repeated is None:
            yield f".{column.name}: dbt's source has no such column"
            continue
        yield from _compare(f".{column.name}", column.description, repeated["description"])
        for name in ("personal", "subject"):
            yield from _compare(f".{column.name}: {name}", getattr(column, name), meta(repeated).get(name))


def _compare(where: str, contract: object, dbt: object) -> Iterator[str]:
    ours, theirs = (" ".join(str(value).split()) if value else "nothing" for value in (contract, dbt))
    if ours != theirs:
        yield f"{where}: the contract says {ours}, and dbt's source {theirs}"


def _length(after: Mapping[str, Any] | None) -> timedelta | None:
    """Return the time that dbt's `count` and `period` are."""
    return timedelta(**{f"{after['period']}s": after["count"]}) if after and after.get("count") else None
