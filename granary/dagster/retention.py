"""What Dagster's own storage keeps: all that says which days were loaded, the rest for as long as other records.

Dagster itself deletes whole runs only, and with them which partitions they brought up to date: those are still asked
for years later (the days of a full refresh, what the UI shows as missing). So of each asset and partition the newest
event of each kind stays, of each check the newest verdicts, and the runs that these name; the rest is deleted here.
"""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
from psycopg.errors import LockNotAvailable, UndefinedColumn, UndefinedTable

from granary.warehouse import retention, trail
from granary.warehouse.connection import connect, count, execute
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

VERDICTS_KEPT = 50
"""Verdicts of each check that stay however old they are: `dbt_assets.verdicts` looks at the last twenty."""
ENDED = "(select run_id from runs where status in ('SUCCESS', 'FAILURE', 'CANCELED'))"
POLICIES = {
    "event_logs": f"""timestamp < $age$ and run_id in {ENDED} and (asset_key is null or id not in (
        select max(id) from event_logs where asset_key is not null group by asset_key, partition, dagster_event_type
    ))""",
    "asset_check_executions": f"""create_timestamp < $age$ and id not in (
        select id from (
            select id, row_number() over (partition by asset_key, check_name order by id desc) as place
            from asset_check_executions
        ) as kept where place <= {VERDICTS_KEPT}
    )""",
    "runs": """create_timestamp < $age$ and status in ('SUCCESS', 'FAILURE', 'CANCELED')
        and not exists (select from event_logs as e where e.run_id = runs.run_id)
        and not exists (select from asset_check_executions as c where c.run_id = runs.run_id)""",
}
"""By table, the rows that may go; $age$ is the moment before which."""


def prune_daily(settings: Settings) -> None:
    """Once a day, delete what no policy keeps, here and in `ops`.

    It is done when a build has succeeded: what goes wrong here changes nothing of that.
    """
    with suppress(GranaryError, psycopg.Error):
        if retention.is_due(settings):
            retention.prune(settings, retention.days())
            prune(settings, retention.days())
            trail.begin_log(settings)


def prune(settings: Settings, kept_days: int) -> dict[str, int]:
    """Delete what is older than so many days and no partition needs; return by table how many rows that were."""
    gone: dict[str, int] = {}
    age = f"(now() at time zone 'UTC' - make_interval(days => {int(kept_days)}))"
    with suppress(GranaryError), connect(settings, settings.dagster_database) as connection:
        for table, condition in POLICIES.items():
            try:
                execute(connection, "set local lock_timeout = '1s'")
                gone[table] = count(connection, f"delete from {table} where {condition.replace('$age$', age)}")
                connection.commit()
            except (UndefinedTable, UndefinedColumn, LockNotAvailable):
                connection.rollback()
    oldest = time.time() - kept_days * 86_400
    for path in (settings.home / "dagster" / "logs").glob("*"):
        with suppress(OSError):
            if path.is_dir() and path.stat().st_mtime < oldest:
                shutil.rmtree(path)
    return gone
