"""Who reads a mart: exposures and metrics of the project, and views that people have made in the database."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from granary.contracts.document import marts
from granary.dbt.manifest_nodes import PUBLISHED
from granary.warehouse.connection import query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.warehouse.connection import Connection

VIEWS = """
with

columns as (

    select attnum from pg_attribute where attrelid = to_regclass($1) and attname = $2 and not attisdropped

)

select distinct format('%s.%s', n.nspname, v.relname), pg_get_userbyid(v.relowner)::text
from pg_depend as d
inner join pg_rewrite as r on r.oid = d.objid
inner join pg_class as v on v.oid = r.ev_class
inner join pg_namespace as n on n.oid = v.relnamespace
where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
    and d.refobjid = to_regclass($1) and v.oid <> d.refobjid
    and ($2 = '' or d.refobjsubid in (select attnum from columns))
order by 1
"""


@dataclass(frozen=True)
class User:
    """Something that reads a mart, and whom to ask about it."""

    kind: Literal["exposure", "metric", "view"]
    name: str
    owner: str


def users(manifest: Mapping[str, Any], mart: str, column: str = "", database: Connection | None = None) -> list[User]:
    """Return who reads a mart, or a column of it where that can be told: not of exposures, which name tables.

    Args:
        manifest: dbt's.
        mart: its name; it may be gone from the project already.
        column: '' for any.
        database: a connection to the warehouse; None to leave views out.
    """
    node = marts(manifest).get(mart)
    found = list(_of_project(manifest, str(node["unique_id"]), column)) if node else []
    if database is not None:
        relation = f"{PUBLISHED}.{mart}"
        found += [User("view", str(name), str(owner)) for name, owner in query(database, VIEWS, relation, column)]
    return found


def _of_project(manifest: Mapping[str, Any], node: str, column: str) -> Iterator[User]:
    metrics = _metrics(manifest, node, "")
    groups = {group["name"]: group["owner"] for group in manifest.get("groups", {}).values()}
    for exposure in sorted(manifest["exposures"].values(), key=lambda one: str(one["name"])):
        if {node, *metrics} & set(exposure["depends_on"]["nodes"]):
            yield User("exposure", str(exposure["name"]), _owner(exposure["owner"]))
    for metric in sorted(_metrics(manifest, node, column)):
        found = manifest["metrics"][metric]
        yield User("metric", str(found["name"]), _owner(groups.get(found.get("group"), {})))


def _owner(owner: Mapping[str, Any]) -> str:
    return str(owner.get("email") or owner.get("name") or "")


def _metrics(manifest: Mapping[str, Any], node: str, column: str) -> set[str]:
    """Return the metrics that are computed from a model, or from a column of it: by measure, or by another metric."""
    models = {
        key: one for key, one in manifest.get("semantic_models", {}).items() if node in one["depends_on"]["nodes"]
    }
    measures = {str(part["name"]) for one in models.values() for part in one["measures"] if _reads(part, column)}
    by_any = any(_reads(part, column) for one in models.values() for part in (*one["entities"], *one["dimensions"]))
    found: set[str] = set()
    for key, metric in manifest["metrics"].items():
        used = {str(one["name"]) for one in metric["type_params"].get("input_measures") or ()}
        of_model = models.keys() & set(metric["depends_on"]["nodes"])
        if used & measures or (of_model and (not column or by_any)):
            found.add(key)
    while (
        more := {key for key, metric in manifest["metrics"].items() if set(metric["depends_on"]["nodes"]) & found}
        - found
    ):
        found |= more
    return found


def _reads(part: Mapping[str, Any], column: str) -> bool:
    """Return whether a measure, dimension or entity reads a column; its own name, where it has no expression."""
    return not column or re.search(rf"\b{re.escape(column)}\b", str(part.get("expr") or part["name"])) is not None
