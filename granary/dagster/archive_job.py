"""The job `archive_raw`: what `granary archive-raw` does, for a schedule (`granary.dagster.schedules.schedule`)."""

import dagster as dg

from granary.dagster.resources import Warehouse
from granary.sources.discovery import SOURCES
from granary.tiering import run
from granary.warehouse.words import plural

NAME = "archive_raw"
DESCRIPTION = "Move raw rows that are older than their contract's archive_after to files of a lake."


@dg.op(description=DESCRIPTION)  # of another name than the job: Dagster takes a job's graph by its name, too
def move_old_rows(context: dg.OpExecutionContext, warehouse: Warehouse) -> None:
    """Move what is old; what could not be moved fails the step, after all others were."""
    done, failures = run.archived(warehouse.settings, run.chosen([]), say=context.log.info)
    for one in done:
        context.log.info(f"{one.source}.{one.table}: {plural(one.rows, 'row')}, in {plural(one.files, 'file')}")
    for error in failures:
        context.log.error(str(error))
    if failures:
        raise failures[0]


def archive_jobs() -> list[dg.JobDefinition]:
    """Return the job, where a table has `archive_after`."""
    if not any(table.archive_after for source in SOURCES.values() for table in source.tables):
        return []

    @dg.job(name=NAME, description=DESCRIPTION)
    def job() -> None:
        move_old_rows()

    return [job]
