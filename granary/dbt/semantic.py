"""Metrics asked for by name: MetricFlow writes the SQL, and an analyst's rights answer it; dbt itself is not needed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from granary.dbt import manifest, manifest_nodes
from granary.warehouse.errors import UsageError, unknown

if TYPE_CHECKING:
    from pathlib import Path

    from metricflow.engine.metricflow_engine import MetricFlowEngine

    from granary.warehouse.settings import Settings

MANIFEST = "semantic_manifest.json"


@dataclass(frozen=True)
class Question:
    """What is asked: metrics, and by what they are sliced, filtered, ordered and cut, in the words of `mf query`.

    `start` and `end` are ISO dates, both included. A filter names dimensions as `{{ Dimension('product__brand') }}`.
    """

    metrics: tuple[str, ...]
    by: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None
    order: tuple[str, ...] = ()
    limit: int | None = None


def answer(settings: Settings, question: Question, role: str = "analyst") -> Any:
    """Return the answer as a `pyarrow.Table`, with a column for each of `by` and each metric.

    Raises:
        UsageError: there is no such metric or dimension, or the filter is none.
        GranaryError: the project cannot be parsed, or the server refuses the query.
    """
    from granary.warehouse.reading import read  # noqa: PLC0415 - a fifth of a second, which who asks the process saves

    return read(sql(settings, question), role=role)


def sql(settings: Settings, question: Question) -> str:
    """Return the query that answers the question on the published marts, with the definitions as they are now.

    Raises:
        UsageError: there is no such metric or dimension, or the filter is none.
        GranaryError: dbt cannot parse the project.
    """
    from metricflow.engine.metricflow_engine import MetricFlowQueryRequest  # noqa: PLC0415 - half a second
    from metricflow_semantics.errors.error_classes import InformativeUserError  # noqa: PLC0415

    made = manifest.prepare(settings).with_name(MANIFEST)
    engine, names = _engine(made, made.stat().st_mtime_ns)
    for name in question.metrics:
        if name not in names:
            raise unknown("metric", name, names, todo="`mf list metrics` shows all")
    request = MetricFlowQueryRequest.create(
        metric_names=question.metrics,
        group_by_names=question.by,
        where_constraints=question.where or None,
        time_constraint_start=_instant(question.start),
        time_constraint_end=_instant(question.end),
        order_by_names=question.order,
        limit=question.limit,
    )
    try:
        return str(engine.explain(request).sql_statement.without_descriptions.sql)
    except InformativeUserError as error:
        raise _refusal(str(error)) from None


@lru_cache(maxsize=1)
def _engine(made: Path, _changed: int) -> tuple[MetricFlowEngine, frozenset[str]]:
    """Return what writes the SQL for the definitions in a file, and the names of the metrics."""
    from metricflow.engine.metricflow_engine import MetricFlowEngine  # noqa: PLC0415
    from metricflow.protocols.sql_client import SqlEngine  # noqa: PLC0415
    from metricflow.sql.render.postgres import PostgresSQLSqlPlanRenderer  # noqa: PLC0415
    from metricflow_semantics.model.dbt_manifest_parser import (  # noqa: PLC0415
        parse_manifest_from_dbt_generated_manifest as parse,
    )
    from metricflow_semantics.model.semantic_manifest_lookup import SemanticManifestLookup  # noqa: PLC0415

    class Postgres:
        """Knows what SQL to write, and runs none."""

        sql_engine_type = SqlEngine.POSTGRES
        sql_plan_renderer = PostgresSQLSqlPlanRenderer()

    definitions = on_published(made)
    lookup = SemanticManifestLookup(parse(json.dumps(definitions)))
    client: Any = Postgres()
    return MetricFlowEngine(lookup, client), frozenset(one["name"] for one in definitions["metrics"])


def on_published(made: Path) -> Any:
    """Return the definitions that dbt made, on the relations that readers see in place of those that it builds."""
    return json.loads(made.read_text(), object_hook=_published)


def _published(part: dict[str, Any]) -> dict[str, Any]:
    if "relation_name" not in part or not str(part["schema_name"]).endswith(manifest_nodes.BUILT):
        return part
    names = part | {"schema_name": manifest_nodes.published_schema({"schema": part["schema_name"]})}
    return names | {"relation_name": ".".join(f'"{names[key]}"' for key in ("database", "schema_name", "alias"))}


def _instant(day: str | None) -> datetime | None:
    """Return the moment at which a day begins, as MetricFlow wants it: without a zone.

    Raises:
        UsageError: it is no date.
    """
    try:
        return datetime.fromisoformat(day) if day else None
    except ValueError:
        raise UsageError(f"{day!r} is not a date", todo="write YYYY-MM-DD") from None


def _refusal(text: str) -> UsageError:
    """Return in a sentence what MetricFlow says on a page."""
    message = re.search(r"Message:\s*(.*?)(?:Suggestions:|Query Input:|Got exception:|\Z)", text, re.DOTALL)
    asked = re.search(
        r"Query Input:\s*(?:WhereFilter\()?(.*?)\)?\s*(?:Filter Path:|Issue Location:|\Z)", text, re.DOTALL
    )
    near = re.search(r"Suggestions:\s*\[(.*?)\]", text, re.DOTALL)
    what = re.split(r" Common issues are:", " ".join((message[1] if message else text).split()))[0]
    where = " ".join(asked[1].split())[:200] if asked else ""
    names = [one.strip(" '\"") for one in " ".join(near[1].split()).split("',")][:3] if near else []
    todo = f"did you mean {' or '.join(names)}?" if names else "`mf list dimensions --metrics …` shows them"
    return UsageError(f"the question cannot be answered: {what[:300].rstrip('.')}", where, todo)
