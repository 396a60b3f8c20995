"""One asset per source table, made by one factory from the loaders' own specs.

An asset's key is that of the dbt source (`shop/orders`), which joins both halves to one graph.
(Dagster reads the annotations of its functions, so they are not postponed in this folder.)
"""

import warnings
from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg

from granary.dagster.anomaly_check import EXPECTED_CHECK, expected_check
from granary.dagster.automation import polled
from granary.dagster.resources import RunOptions, Warehouse, earlier_days
from granary.dagster.signals import stoppable
from granary.dagster.windows import window_of_tags
from granary.dbt.run_events import Event, Problem, Severity, Stage, emit
from granary.load.api import LoadResult, Progress, load_table, row_count
from granary.load.freshness import Freshness, freshness
from granary.monitoring.anomalies.look import look
from granary.monitoring.anomalies.records import lines
from granary.sources.discovery import BROKEN, SOURCES
from granary.sources.spec import Source, Table
from granary.warehouse.connection import connect, query
from granary.warehouse.environment_errors import plainly
from granary.warehouse.errors import GranaryError, TransientError
from granary.warehouse.project import calendar
from granary.warehouse.settings import Settings
from granary.warehouse.words import plural

CHECK, CONTRACT_CHECK, FRESH_CHECK = "every_row_accounted_for", "contract_kept", "fresh"
CHECKS = (CHECK, CONTRACT_CHECK, FRESH_CHECK, EXPECTED_CHECK)
FILE_KINDS = frozenset({"parquet", "csv", "json", "jsonl"})
RETRIES, RETRY_SECONDS = 2, 3
"""Of what may pass by itself: after 3 s, and after 12 s more, in which a server that was killed is up again."""
POOL = "warehouse"
"""Steps that write to the warehouse: one run of them at a time."""
SHOWN = 20
"""Load ids and units that a page lists before it breaks off."""
LEDGER_ROWS = """
    select coalesce(sum(rows_loaded), 0)::bigint
    from ops.load_audit
    where source = $1 and table_name = $2 and status = 'loaded' and superseded_by is null
"""


def key_of(source: str, table: str) -> dg.AssetKey:
    """Return the asset key of a source table: the one that dagster-dbt gives to the dbt source of that name."""
    return dg.AssetKey([source, table])


def partitions(last: date | None) -> dg.DailyPartitionsDefinition:
    """Return one partition per business date: up to yesterday, or to `last` for a history that has ended."""
    end = None if last is None else (last + timedelta(days=1)).isoformat()
    business = calendar()
    return dg.DailyPartitionsDefinition(business.first_date.isoformat(), end_date=end, timezone=business.time_zone)


def loaders(days: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Return the assets that load the tables of every source; `days` are the partitions of the daily ones.

    A source whose module cannot be used has one asset, which fails and says why.
    """
    with warnings.catch_warnings():
        # Backfill policies are marked beta; without one Dagster starts one run per day of a backfill.
        warnings.simplefilter("ignore", dg.BetaWarning)
        every = [loader(source, table, days) for source in SOURCES.values() for table in source.tables]
        return every + [unusable(name, error, key_of(name, "module"), "load", name) for name, error in BROKEN.items()]


def unusable(name: str, error: GranaryError, key: dg.AssetKey, stage: Stage, group: str) -> dg.AssetsDefinition:
    """Return the asset of a module that cannot be used: it fails in each run, and costs nobody else's."""
    problem = Problem(error.what, error.where, error.todo)

    @dg.asset(key=key, description=str(error), group_name=group)
    def fail() -> None:
        emit(Event("failed", stage, name, group=group, detail=str(problem)))
        emit(problem)
        raise dg.Failure(str(problem), allow_retries=False)

    return fail


def loader(source: Source, table: Table, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the asset that loads one table."""
    key = key_of(source.name, table.name)

    @dg.asset(
        key=key,
        description=table.description,
        group_name=source.name,
        owners=[f"team:{source.owner}"],
        kinds={source.kind, "postgres"},
        metadata={
            "dagster/table_name": f"raw_{source.name}.{table.name}",
            "dagster/column_schema": column_schema(table),
            "disposition": table.disposition,
            "contract": table.contract,
        },
        partitions_def=days if table.is_daily else None,
        backfill_policy=dg.BackfillPolicy.single_run() if table.is_daily else None,
        automation_condition=polled(table.poll) if table.poll else None,
        pool=POOL,
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=key,
                description="Rows read = rows loaded + rows refused; none refused, and no file that was not loaded.",
            ),
            dg.AssetCheckSpec(CONTRACT_CHECK, asset=key, description="The delivery has the shape that was agreed."),
            # Not Dagster's freshness policy: it counts materialisations, and so every load that found nothing.
            dg.AssetCheckSpec(FRESH_CHECK, asset=key, description="Something new came in the time that was agreed."),
            dg.AssetCheckSpec(EXPECTED_CHECK, asset=key, description="What came is like what came before."),
        ],
    )
    def load(
        context: dg.AssetExecutionContext, config: RunOptions, warehouse: Warehouse
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[None]]:
        name = f"{source.name}.{table.name}"
        emit(Event("started", "load", name, group=source.name))

        def progress(seen: Progress) -> None:
            emit(Event("rows", "load", name, group=source.name, rows=seen.rows, detail=str(seen)))

        try:
            with stoppable(context):
                result = load_table(
                    warehouse.settings,
                    source.name,
                    table.name,
                    window=None if config.full_refresh else window_of_tags(context.run.tags),
                    full_refresh=config.full_refresh,
                    run_id=context.run.run_id,
                    progress=progress,
                )
                rows = rows_of(warehouse.settings, source, table)
                (age,) = freshness(warehouse.settings, source.name, table.name)
        except Exception as failure:
            if (error := plainly(failure)) is None:
                raise
            problem = Problem(f"{name}: {error.what}", error.where, error.todo)
            if isinstance(error, TransientError) and context.retry_number < RETRIES:
                emit(Event("retrying", "load", name, group=source.name, detail=str(problem)))
                wait = RETRY_SECONDS * 4**context.retry_number
                raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=wait) from failure
            emit(Event("failed", "load", name, group=source.name, detail=str(problem)))
            emit(problem)
            raise dg.Failure(str(problem), allow_retries=False) from failure
        emit(Event("finished", "load", name, source.name, result.rows_loaded, result.seconds, detail=result.status))
        for one in result.failed:
            emit(Problem(f"{name}: {one.unit} could not be loaded: {one.reason}", name, "the other units have landed"))
        for check in (accounting(key, result), contract_check(key, result), fresh_check(age)):
            if not check.passed:
                severity: Severity = "warn" if check.severity is dg.AssetCheckSeverity.WARN else "error"
                warning = f"{check.check_name} of {name}: {check.description or summary(result)}"
                emit(Event("checked", "load", warning, source.name, passed=False, severity=severity, asset=name))
            yield check
        unusual = look(warehouse.settings, source.name, table)
        for words in lines(unusual.new) + ([unusual.problem] if unusual.problem else []):
            emit(Event("checked", "load", words, source.name, passed=False, severity="warn", asset=name))
        yield expected_check(warehouse.settings, source.name, table, unusual)
        for day in earlier_days(context, key):
            context.log_event(day)
        yield dg.MaterializeResult(
            metadata={"dagster/row_count": rows, **result_metadata(result)},
            data_version=dg.DataVersion(content(warehouse.settings, source.name, table.name)),
        )

    return load


def column_schema(table: Table) -> dg.TableSchema:
    """Return the contract of a table as Dagster shows it; personal columns are tagged."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=str(column.type),
                description=column.description,
                constraints=dg.TableColumnConstraints(nullable=column.nullable, unique=table.key == (column.name,)),
                tags={"personal": column.personal} if column.personal else {},
            )
            for column in table.columns
        ]
    )


def accounting(key: dg.AssetKey, result: LoadResult) -> dg.AssetCheckResult:
    """Return the check that no row was lost and no unit failed.

    It only warns of refused rows, which are kept and can be replayed, and of what was not loaded.
    """
    lost = result.rows_read - result.rows_loaded - result.rows_quarantined - result.rows_forgotten
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=CHECK,
        passed=not lost and not result.rows_quarantined and not not_loaded(result) and not result.warnings,
        severity=dg.AssetCheckSeverity.ERROR if lost or result.failed else dg.AssetCheckSeverity.WARN,
        metadata={
            "rows refused": result.rows_quarantined,
            "rows lost": lost,
            "forgotten rows": result.rows_forgotten,
            "not loaded": "\n".join(not_loaded(result)[:SHOWN]) or "none",
            "first refused": "; ".join(result.refused) or "none",
            "warnings": "; ".join(result.warnings) or "none",
        },
    )


def not_loaded(result: LoadResult) -> list[str]:
    """Return what a load saw and did not load; what no table takes is reported by the first table of the source."""
    first = SOURCES[result.source].tables[0].name if result.source in SOURCES else result.table
    shown = [one for one in result.not_loaded if one.outcome != "passed over" or result.table == first]
    return [f"{one.unit} {one.outcome}: {one.reason}" for one in shown]


def contract_check(key: dg.AssetKey, result: LoadResult) -> dg.AssetCheckResult:
    """Return the check that warns of changes of the delivery's shape, which were dealt with as the contract says."""
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=CONTRACT_CHECK,
        passed=not result.changes,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "schema changes": dg.MetadataValue.table(
                [dg.TableRecord({"column": c.column, "change": c.change, "detail": c.detail}) for c in result.changes],
                dg.TableSchema([dg.TableColumn(name) for name in ("column", "change", "detail")]),
            )
        },
    )


def fresh_check(age: Freshness) -> dg.AssetCheckResult:
    """Return the check that warns of a source that is silent."""
    return dg.AssetCheckResult(
        asset_key=key_of(age.source, age.table),
        check_name=FRESH_CHECK,
        passed=not age.is_late,
        severity=dg.AssetCheckSeverity.WARN,
        description=str(age) if age.is_late else None,
        metadata={
            "new at": dg.MetadataValue.timestamp(age.fresh_at),
            "hours allowed": age.allowed.total_seconds() / 3600,
        },
    )


def rows_of(settings: Settings, source: Source, table: Table) -> int:
    """Return the rows of a raw table.

    The ledger knows them where units are replaced whole (counting 21 million rows after their load takes 4 s); merged
    tables are small and counted.
    """
    if table.disposition != "replace_unit":
        return row_count(settings, source.name, table.name)
    with connect(settings, role="loader") as connection:
        return int(str(query(connection, LEDGER_ROWS, source.name, table.name)[0][0]))


def content(settings: Settings, source: str, table: str) -> str:
    """Return the newest load that changed a table: what follows from it is in step for as long as that is the same."""
    newest = "select max(load_id)::text from ops.load_audit where source = $1 and table_name = $2 and status = 'loaded'"
    with connect(settings, role="loader") as connection:
        return str(query(connection, newest, source, table)[0][0] or "empty")


def summary(result: LoadResult) -> str:
    """Return in words what a load refused and what was new in the delivery's shape."""
    parts = list(result.warnings)
    if result.rows_quarantined:
        parts.append(f"{plural(result.rows_quarantined, 'row')} refused, first {'; '.join(result.refused)}")
    parts += not_loaded(result)[:SHOWN]
    parts += [f"{change.column} {change.change} ({change.detail})".strip() for change in result.changes]
    return "; ".join(parts)


def result_metadata(result: LoadResult) -> dict[str, dg.MetadataValue]:
    """Return what the ledger says of a load, for the asset's page."""
    loads = ", ".join(str(number) for number in result.load_ids[:SHOWN])
    return {
        "status": dg.MetadataValue.text(result.status),
        "rows read": dg.MetadataValue.int(result.rows_read),
        "rows loaded": dg.MetadataValue.int(result.rows_loaded),
        "rows refused": dg.MetadataValue.int(result.rows_quarantined),
        "forgotten rows": dg.MetadataValue.int(result.rows_forgotten),
        "rows replaced": dg.MetadataValue.int(result.rows_deleted),
        "units": dg.MetadataValue.int(result.units),
        "bytes": dg.MetadataValue.int(result.bytes),
        "seconds": dg.MetadataValue.float(round(result.seconds, 3)),
        "watermark": dg.MetadataValue.text(result.watermark_after or ""),
        "load ids": dg.MetadataValue.text(loads + (" …" if len(result.load_ids) > SHOWN else "")),
    }


def loaded_dates(instance: dg.DagsterInstance) -> list[date]:
    """Return the business dates that Dagster has seen loaded."""
    days = {day for key in DAILY_KEYS for day in instance.get_materialized_partitions(key)}
    return [date.fromisoformat(day) for day in sorted(days)]


KEYS = [key_of(source.name, table.name) for source in SOURCES.values() for table in source.tables]
"""The source tables that have a loader."""
DAILY_KEYS = [
    key_of(source.name, table.name) for source in SOURCES.values() for table in source.tables if table.is_daily
]
"""The source tables that are delivered by the business day."""
