"""Models of events: each row is made from one event and from tables that stand still, so a batch of events is enough.

A model says so with `meta: {fresh: true}`. Its SQL and that of the views between it and the raw table are what dbt
compiles for a full refresh, the same that the batch runs, written as Spark's.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from granary.dbt import manifest as dbt_manifest
from granary.dbt.manifest_nodes import meta, relation
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from granary.sources.spec import Source
    from granary.warehouse.settings import Settings

WHOLE = (exp.AggFunc, exp.Window, exp.Group, exp.Distinct, exp.Limit, exp.Intersect, exp.Except)
"""What of a query needs more than one event."""


@dataclass(frozen=True)
class EventModel:
    """A model that a stream computes: `queries` in Spark's SQL by the name of the view, the last is the model's."""

    name: str
    schema: str
    alias: str
    topic_table: str
    queries: tuple[tuple[str, str], ...]
    tables: tuple[str, ...]
    """The relations that it reads besides, as `schema.name`."""

    @property
    def relation(self) -> str:
        """The relation that dbt builds."""
        return f"{self.schema}.{self.alias}"


def view_of(name: str) -> str:
    """Return what a relation (`schema.name`) is called in Spark."""
    return name.replace(".", "__")


def event_models(settings: Settings, source: Source) -> list[EventModel]:
    """Return the models of a source's streamed tables that are computed as events come.

    Raises:
        GranaryError: dbt cannot compile them, or one needs more than an event at a time.
    """
    manifest = dbt_manifest.load(dbt_manifest.prepare(settings))
    named = [node for node in manifest["nodes"].values() if node["resource_type"] == "model" and _is_fresh(node)]
    found = {node["name"]: _ways(manifest, node, source) for node in named}
    found = {name: way for name, way in found.items() if way}
    if not found:
        return []
    target = settings.home / "spark" / "dbt"
    _compile(settings, target, sorted({node["name"] for way in found.values() for node in way}))
    return [_model(way, target, source) for _, way in sorted(found.items())]


def _is_fresh(node: Mapping[str, Any]) -> bool:
    return meta(node).get("fresh") is True


def _ways(manifest: Mapping[str, Any], node: Mapping[str, Any], source: Source) -> list[Mapping[str, Any]]:
    """Return the models from the streamed table to this one, views first; none, if it reads no streamed table."""
    streamed = source.stream.topics if source.stream else {}
    way: list[Mapping[str, Any]] = []

    def reads(one: Mapping[str, Any]) -> bool:
        is_on_it = False
        for parent in one["depends_on"]["nodes"]:
            table = manifest["sources"].get(parent)
            if table is not None:
                is_on_it |= table["source_name"] == source.name and table["name"] in streamed
            else:
                view = manifest["nodes"][parent]
                is_view = view["config"].get("materialized") == "view"
                is_on_it |= is_view and reads(view)
        if is_on_it and one not in way:
            way.append(one)
        return is_on_it

    reads(node)
    return way


def _compile(settings: Settings, target: Path, names: list[str]) -> None:
    """Have dbt write the SQL of a full refresh, unless it is that of the project as it is now.

    Raises:
        GranaryError: it cannot; see its log.
    """
    target.mkdir(parents=True, exist_ok=True)
    stamp, now = target / "compiled.fingerprint", f"{dbt_manifest.fingerprint(settings)} {' '.join(names)}"
    if stamp.exists() and stamp.read_text() == now:
        return
    stamp.unlink(missing_ok=True)
    variables = json.dumps(dbt_manifest.INCREMENTAL_VARS)
    done = subprocess.run(
        [*dbt_manifest.DBT, "compile", "--full-refresh", "--quiet", "--vars", variables, "--select", *names],
        cwd=dbt_manifest.PROJECT_DIR,
        env=dbt_manifest.environment(settings, target),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise GranaryError("dbt cannot compile the models of events", str(target / "dbt.log"), "see its log")
    stamp.write_text(now)


def _model(way: list[Mapping[str, Any]], target: Path, source: Source) -> EventModel:
    own = {relation(node) for node in way}
    model, raw = way[-1], {f"raw_{source.name}.{table.name}": table.name for table in source.tables}
    queries, others, events = [], set(), []
    for node in way:
        path = target / "compiled" / node["package_name"] / node["original_file_path"]
        query = parsed(path.read_text(), node["name"])
        for name in _relations(query):
            if name in raw:
                events.append(raw[name])
            elif name in own:
                continue
            else:
                others.add(name)
        queries.append((view_of(relation(node)), query.sql(dialect="spark")))
    if len(events) != 1:
        raise _unfit(model["name"], f"it reads {len(events)} raw tables of {source.name}, and not one")
    if "load_id" not in model["columns"]:
        raise _unfit(model["name"], "it has no column load_id, by which the batch says what it holds")
    alias = str(model.get("alias") or model["name"])
    return EventModel(model["name"], model["schema"], alias, events[0], tuple(queries), tuple(sorted(others)))


def parsed(sql: str, name: str) -> exp.Expr:
    """Return a model's query with its relations under their names in Spark.

    Raises:
        GranaryError: it cannot be read, or a row of it needs more than one event.
    """
    try:
        query = parse_one(sql, dialect="postgres")
    except SqlglotError as error:
        raise _unfit(name, f"its SQL cannot be read: {str(error).splitlines()[0][:200]}") from None
    for part in query.find_all(*WHOLE):
        raise _unfit(name, f"a row of it is made from several: {part.sql(dialect='postgres')[:80]}")
    return query


def _relations(query: exp.Expr) -> Iterator[str]:
    """Yield the relations that a query reads, and put Spark's name of each in its place."""
    for table in list(query.find_all(exp.Table)):
        if table.db:
            name = f"{table.db}.{table.name}"
            alias = table.alias_or_name
            table.replace(exp.to_table(view_of(name), alias=alias))
            yield name


def _unfit(name: str, why: str) -> GranaryError:
    return GranaryError(
        f"a stream cannot compute {name}: {why}",
        f"models, {name}",
        "take `fresh: true` from its meta; the batch computes it from the same events",
    )
