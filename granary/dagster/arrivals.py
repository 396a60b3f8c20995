"""Sensors that start runs by themselves: when a file arrives, and when rows have landed that nobody has built on."""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import dagster as dg

from granary.dagster.automation import POLL_SECONDS, SENSORS
from granary.dagster.execution import UNIQUE_ID
from granary.dagster.instance import EVERYTHING, IN_PROCESS
from granary.dagster.jobs import run_config
from granary.dagster.loader_assets import FILE_KINDS, KEYS, key_of, loaded_dates
from granary.dagster.pending import quiet_day
from granary.dagster.publish_checks import ASSET as PUBLISHED
from granary.dagster.resources import Warehouse
from granary.dagster.rest_of_run import is_daily
from granary.dagster.windows import Window, split, window_of_run, window_tag
from granary.dbt import last_build
from granary.dbt import manifest as dbt_manifest
from granary.load import api
from granary.sources.discovery import SOURCES
from granary.sources.spec import Source, Table
from granary.sources.units import Unit
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.settings import Settings

LANDING_SECONDS, FOLLOW_SECONDS = 30, 300
AGAIN = timedelta(hours=1)
"""After this, what has not landed in spite of a run is tried again."""
AT_WORK = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
NEWEST = """
    select of.source, of.table_name, newest.load_id, newest.run_id
    from unnest($1::text[], $2::text[]) as of (source, table_name), lateral (
        select load_id, run_id from ops.load_audit as l
        where l.source = of.source and l.table_name = of.table_name and l.status in ('loaded', 'withdrawn')
        order by load_id desc limit 1
    ) as newest
"""


@dg.sensor(
    name="landing_zone",
    job_name=EVERYTHING,
    minimum_interval_seconds=LANDING_SECONDS,
    default_status=SENSORS,
    description="Loads files that have arrived, and builds what follows from their tables; looks at names and times.",
)
def landing_zone(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> dg.SensorResult | dg.SkipReason:
    """Ask for one run of the tables whose places have files that are not loaded; none while another run is at work.

    The warehouse is asked only if the listing of a place has changed, or an hour after a run that did not help.
    """
    settings, now = warehouse.settings, datetime.now(timezone.utc)
    before: dict[str, Any] = json.loads(context.cursor or "{}")
    after: dict[str, Any] = {}
    new: dict[dg.AssetKey, list[Unit]] = {}
    for source, table, units in listings(settings):
        name = f"{source.name}.{table.name}"
        digest, known = digest_of(units), before.get(name, {})
        asked = known.get("asked")
        if digest == known.get("seen") and not (asked and now - datetime.fromisoformat(asked) > AGAIN):
            after[name] = known
            continue
        found = api.waiting(settings, source.name, table, units)
        after[name] = {"seen": digest} | ({"asked": now.isoformat()} if found else {})
        if found:
            new[key_of(source.name, table.name)] = found
    cursor = json.dumps(before | after)
    if not new:
        return dg.SensorResult(skip_reason="nothing has arrived", cursor=cursor)
    if is_at_work(context.instance):
        return dg.SkipReason("what has arrived waits for the run at work")
    graph = context.repository_def.asset_graph  # type: ignore[union-attr]
    keys = buildable(settings, following(graph, new) | set(new))
    dates = {unit.date for units in new.values() for unit in units if unit.date}
    windows: Sequence[Window] = split(dates) or [idle_window(settings, context.instance)]
    key = digest_of([unit for units in new.values() for unit in units])
    requests = [
        request(graph, keys, window, f"{key} {now:%Y-%m-%dT%H} {window[0]}", rebuild=bool(dates)) for window in windows
    ]
    return dg.SensorResult(run_requests=requests, cursor=cursor)


def listings(settings: Settings) -> Iterator[tuple[Source, Table, list[Unit]]]:
    """Yield each table of files with what lies in its place now; a place that cannot be looked at holds up no other."""
    for source in SOURCES.values():
        if source.kind in FILE_KINDS:
            with suppress(GranaryError, OSError):
                reader = source.reader(settings)
                for table in source.tables:
                    yield source, table, reader.units(table, None)


def digest_of(units: Sequence[Unit]) -> str:
    """Return what tells one listing from another."""
    lines = sorted(f"{unit.name}\0{unit.version}\0{unit.fingerprint}\0{unit.problem}" for unit in units)
    return sha256("\n".join(lines).encode()).hexdigest()[:16]


@dg.sensor(
    name="landed",
    job_name=EVERYTHING,
    minimum_interval_seconds=FOLLOW_SECONDS,
    default_status=SENSORS,
    description="Builds what follows from rows that polls, captures, streams and `granary load` have brought.",
)
def landed(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> dg.SensorResult | dg.SkipReason:
    """Ask for one build of what follows from tables whose newest load is by no run that builds."""
    settings = warehouse.settings
    with connect(settings, role="loader") as connection:
        found = query(connection, NEWEST, [key.path[0] for key in KEYS], [key.path[1] for key in KEYS])
    newest = {key_of(str(source), str(table)): (int(str(load)), run) for source, table, load, run in found}
    loads = {key.to_user_string(): load for key, (load, _) in newest.items()}
    if context.cursor is None:
        return dg.SensorResult(skip_reason="begins here", cursor=json.dumps(loads))
    before = json.loads(context.cursor)
    changed = {key: run for key, (load, run) in newest.items() if load > before.get(key.to_user_string(), 0)}
    tables = [key for key, run in changed.items() if not builds(context.instance, str(run or ""))]
    if not tables:
        return dg.SensorResult(skip_reason="nothing waits to be built on", cursor=json.dumps(loads))
    if is_at_work(context.instance):
        return dg.SkipReason("what has landed waits for the run at work")
    graph = context.repository_def.asset_graph  # type: ignore[union-attr]
    window = idle_window(settings, context.instance)
    keys = buildable(settings, following(graph, tables))
    key = " ".join(f"{table.to_user_string()}:{loads[table.to_user_string()]}" for table in sorted(tables))
    return dg.SensorResult(
        run_requests=[request(graph, keys, window, sha256(key.encode()).hexdigest(), rebuild=False)],
        cursor=json.dumps(loads),
    )


def builds(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Return whether a load was part of a run that also builds what follows, or looks after that itself."""
    run = instance.get_run_by_id(run_id) if run_id else None
    return run is not None and (IN_PROCESS in run.tags or not run.asset_selection or not run.asset_selection <= {*KEYS})


def is_at_work(instance: dg.DagsterInstance) -> bool:
    """Return whether a run is at work, or waits: it may bring what is missing."""
    return bool(instance.get_runs(filters=dg.RunsFilter(statuses=AT_WORK), limit=1))


def following(graph: Any, tables: Collection[dg.AssetKey]) -> set[dg.AssetKey]:
    """Return what follows from tables, with the checks of what is published if that is anything."""
    after = set(dg.AssetSelection.assets(*tables).downstream(include_self=False).resolve(graph))
    return after | ({PUBLISHED} & set(graph.executable_asset_keys) if after else set())


def buildable(settings: Settings, keys: set[dg.AssetKey]) -> set[dg.AssetKey] | None:
    """Return these assets; None, for everything, where the project was never built whole: parents may be missing."""
    return keys if last_build.was_of(settings, dbt_manifest.fingerprint(settings)) else None


def idle_window(settings: Settings, instance: dg.DagsterInstance) -> Window:
    """Return the day that a run is of that is about no day."""
    return window_of_run([], loaded_dates(instance)) or quiet_day(settings)


def request(
    graph: Any, keys: Collection[dg.AssetKey] | None, window: Window, run_key: str, *, rebuild: bool
) -> dg.RunRequest:
    """Return the request for a run of these assets (None: all); `rebuild` has the facts overwrite its days anyway."""
    chosen = graph.executable_asset_keys if keys is None else keys
    daily = is_daily(graph, chosen)
    of_dbt = any(UNIQUE_ID in graph.get(key).metadata for key in chosen)
    return dg.RunRequest(
        run_key=run_key,
        asset_selection=None if keys is None else sorted(keys),
        partition_key=window[1].isoformat() if daily else None,
        tags=window_tag(window) if daily else {},
        run_config=run_config(EVERYTHING, rebuild=rebuild) if of_dbt else {},
    )


def polling() -> list[dg.AutomationConditionSensorDefinition]:
    """Return the sensor that looks which tables are due to be polled, if any is ever."""
    tables = [key_of(source.name, table.name) for source in SOURCES.values() for table in source.tables if table.poll]
    if not tables:
        return []
    return [
        dg.AutomationConditionSensorDefinition(
            "polling",
            target=dg.AssetSelection.assets(*tables),
            default_status=SENSORS,
            minimum_interval_seconds=POLL_SECONDS,
            description="Loads tables whose contract says how often they are polled.",
        )
    ]
