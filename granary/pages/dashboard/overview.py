"""A page made from what the project declares: what its marts hold, their first measures by day, how fresh it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import altair as alt

from granary.dbt import manifest
from granary.dbt.manifest_nodes import PUBLISHED, is_mart, meta
from granary.dbt.tiers import tier
from granary.pages.dashboard.days import DAYS, day_tooltip
from granary.pages.dashboard.parts import Chart, Dataset, Figure, Page, key, total, value
from granary.pages.dashboard.theme import BLUE
from granary.sources.discovery import SOURCES
from granary.warehouse.connection import connect, query, quote_name, quote_relation
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from granary.pages.dashboard.parts import Found

MARTS, DRAWN = 8, 2
"""How many marts are drawn, and how many measures of each."""
COUNTS = """\
-- Each published mart with its rows, and when something of it was last published.
select
    counted.mart,
    counted.row_count,
    to_char(max(publishes.finished_at) at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as published_at
from (
    {counts}
) as counted (mart, row_count)
left join ops.publishes as publishes on publishes.schema_name = 'marts' and counted.mart = any(publishes.marts)
group by counted.mart, counted.row_count
order by counted.mart
"""
THERE = "select tables.relname from pg_class as tables where tables.relnamespace = to_regnamespace('marts')"
SOURCES_NOW = """\
-- Each source table: its last load, and how long ago its source last had something new.
select
    loads.source || '.' || loads.table_name as source_table,
    loads.last_status,
    to_char(loads.last_good_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as last_good_at,
    round(cast(extract(epoch from clock_timestamp() - fresh.fresh_at) / 3600 as numeric), 1) as hours_since_new,
    allowed.hours as hours_allowed,
    cast(extract(epoch from clock_timestamp() - fresh.fresh_at) / 3600 > allowed.hours as integer) as is_late,
    cast(loads.last_status = 'failed' as integer) as failing,
    loads.active_rows,
    loads.rows_quarantined
from ops.load_health as loads
left join ops.freshness as fresh on loads.source = fresh.source and loads.table_name = fresh.table_name
left join (values {allowed}) as allowed (source, table_name, hours)
    on loads.source = allowed.source and loads.table_name = allowed.table_name
order by source_table
"""


def overview() -> Page:
    """Return the page of this project as it is declared now."""
    settings = Settings.load()
    with connect(settings, role="transformer") as connection:
        there = {str(name) for (name,) in query(connection, THERE)}
    nodes = manifest.load(manifest.prepare(settings))["nodes"].values()
    marts = sorted((node for node in nodes if is_mart(node) and node["alias"] in there), key=lambda node: node["name"])
    dated = [node for node in marts if node["resource_type"] == "model" and _day(node)]
    drawn = sorted(dated, key=lambda node: (not node["name"].startswith("fct_"), node["name"]))[:MARTS]
    days = [_days(node) for node in drawn]
    return Page(
        name="index",
        title="Overview",
        lead="What the marts hold, day by day, and how fresh it is, as the project declares it. Times are UTC.",
        datasets=(
            Dataset("marts", role="transformer", needs="ops.publishes", sql=_counts(marts)),
            Dataset("sources", role="transformer", needs="ops.load_health", sql=_sources()),
            *days,
        ),
        figures=(
            Figure("Rows in the marts", "marts", total("row_count", "", "count")),
            Figure("Rows in use of the sources", "sources", total("active_rows", "", "count")),
            Figure("Rows in quarantine", "sources", total("rows_quarantined", "", "count")),
            Figure("Source tables that are late", "sources", total("is_late", "", "count")),
            Figure("Source tables whose last load failed", "sources", total("failing", "", "count")),
        ),
        charts=(
            *(chart for node, dataset in zip(drawn, days, strict=True) for chart in _charts(node, dataset)),
            Chart(
                "marts",
                "The marts",
                "Rows of each published mart.",
                "marts",
                (
                    key("mart", "Mart"),
                    value("row_count", "Rows", "count"),
                    value("published_at", "Last published", "text"),
                ),
                None,
                empty="Nothing is published yet.",
            ),
            Chart(
                "sources",
                "The sources",
                "The last good load of each source table, and the hours since its source last had something new.",
                "sources",
                (
                    key("source_table", "Source table"),
                    value("last_status", "Last load", "text"),
                    value("last_good_at", "Last good load", "text"),
                    value("hours_since_new", "Hours since something new", "decimal"),
                    value("hours_allowed", "Hours allowed", "count"),
                    value("active_rows", "Rows in use", "count"),
                    value("rows_quarantined", "Quarantined", "count"),
                ),
                None,
                wide=True,
                empty="No load is recorded here.",
                finding=_late,
            ),
        ),
    )


def _counts(marts: Sequence[Mapping[str, Any]]) -> str:
    rows = [_counted(str(node["alias"])) for node in marts]
    return COUNTS.replace("{counts}", "\n    union all ".join(rows) or "select null, 0 where false")


def _counted(mart: str) -> str:
    text = mart.replace("'", "''")
    return f"select '{text}', count(*) from {quote_relation(PUBLISHED, mart)}"


def _day(node: Mapping[str, Any]) -> str:
    """Return the column or expression that says which day a row of a mart belongs to, or an empty string."""
    named = str(meta(node).get("business_date") or "")
    day = named or ("business_date" if "business_date" in node["columns"] else "")
    personal = (name for name, column in node["columns"].items() if tier(column))
    return "" if any(re.search(rf"\b{re.escape(name)}\b", day) for name in personal) else day


def _measures(node: Mapping[str, Any]) -> list[str]:
    """Return the measures to draw; the sum of a personal one is of somebody where a day has one row."""
    named = [str(name) for name in meta(node).get("measures") or ()]
    return [name for name in named if not tier(node["columns"].get(name, {}))][:DRAWN]


def _days(node: Mapping[str, Any]) -> Dataset:
    """Return the rows of a mart and its first measures by day; its publisher reads them, and sums are of nobody."""
    sums = "".join(f",\n    sum({quote_name(name)}) as {quote_name(name)}" for name in _measures(node))
    name, day = str(node["alias"]), _day(node)
    sql = (
        f"-- Rows and first measures of {name} by day.\n"
        f"select\n    to_char({day}, 'YYYY-MM-DD') as day,\n    count(*) as row_count{sums}\n"
        f"from marts.{name}\nwhere {day} is not null\ngroup by {day}\norder by day\n"
    )
    return Dataset(f"{name}_days", role="transformer", needs=quote_relation("marts", name), sql=sql)


def _charts(node: Mapping[str, Any], dataset: Dataset) -> list[Chart]:
    measures = _measures(node)
    columns = (
        key("day", "Day"),
        value("row_count", "Rows", "count"),
        *(value(name, _words(name), "decimal") for name in measures),
    )
    return [
        Chart(
            f"{node['name']}-{name}",
            f"{node['name']}: {_words(name).lower()} by day",
            "Days without rows have no bar.",
            dataset.name,
            columns,
            _bars(name, _words(name)),
            empty="The mart is not published yet, or has no rows.",
        )
        for name in measures or ["row_count"]
    ]


def _words(name: str) -> str:
    """Return a column's name as a label."""
    return "Rows" if name == "row_count" else name.replace("_", " ").capitalize()


def _bars(name: str, label: str) -> Callable[[alt.Chart], alt.Chart]:
    def draw(base: alt.Chart) -> alt.Chart:
        drawn: alt.Chart = (
            base.mark_bar(color=BLUE)
            .encode(
                x=alt.X("day", type="temporal", timeUnit="utcyearmonthdate", title=None, axis=DAYS),
                y=alt.Y(name, type="quantitative", title=label, axis=alt.Axis(format=",.2~f", tickCount=5)),
                tooltip=[
                    day_tooltip("day", "Day"),
                    alt.Tooltip(name, type="quantitative", title=label, format=",.2~f"),
                ],
            )
            .properties(height=220)
        )
        return drawn

    return draw


def _sources() -> str:
    rows = [
        f"('{source.name}', '{table.name}', {table.freshness.total_seconds() / 3600:g})"
        for source in SOURCES.values()
        for table in source.tables
    ]
    return SOURCES_NOW.replace("{allowed}", ", ".join(rows) or "('', '', 0)")


def _late(rows: Found) -> str | None:
    late = [str(row["source_table"]) for row in rows if row["is_late"]]
    return f"Late: {', '.join(late)}" if late else "Every source had something new in the time agreed"
