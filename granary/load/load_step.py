"""A table's load as a step of its run, in the run ledger and for OpenLineage."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from granary.warehouse import openlineage, run_ledger
from granary.warehouse.openlineage import Dataset, Work
from granary.warehouse.records import sql_type
from granary.warehouse.steps import Step

if TYPE_CHECKING:
    from granary.load.batch_stage import LoadResult
    from granary.sources.spec import Source, Table
    from granary.warehouse.settings import Settings


class LoadStep:
    """What a load takes of this process, and how it ends."""

    def __init__(self, settings: Settings, run_id: str, source: Source, table: Table, *, is_full: bool) -> None:
        """Take note of when it began."""
        self.settings, self.source, self.table = settings, source, table
        self.began, self.before = time.perf_counter(), run_ledger.usage()
        name = f"{source.name}.{table.name}"
        self.step = Step(run_id, "load", name, f"raw_{name}", is_full, 0, None, started_at=datetime.now(timezone.utc))

    def keep(self, error: BaseException | None, result: LoadResult | None = None) -> None:
        """Keep it, if it belongs to a run."""
        if not self.step.run_id:
            return
        status = "canceled" if isinstance(error, KeyboardInterrupt) else "failed" if error else "succeeded"
        left = result.failed if result else ()
        words = error or (f"{left[0].unit} could not be loaded: {left[0].reason}" if left else None)
        ended = replace(
            self.step,
            seconds=round(time.perf_counter() - self.began, 3),
            finished_at=datetime.now(timezone.utc),
            row_count=result.rows_loaded if result else None,
            byte_count=result.bytes if result else None,
            status="failed" if left else status,
            cause=run_ledger.cause_of(words) if words else None,
            **vars(run_ledger.usage().since(self.before)),
        )
        run_ledger.keep(self.settings, (), [ended])
        if openlineage.is_on():
            openlineage.emit([self._lineage(ended, result)])

    def _lineage(self, ended: Step, result: LoadResult | None) -> Work:
        """Return what was read and written, column by column, for OpenLineage."""
        name = ended.name
        columns = {column.name: sql_type(column.type) for column in self.table.columns}
        read = Dataset(f"{self.source.kind}://{self.source.name}", self.table.location, columns)
        made = openlineage.table(
            self.settings,
            f"raw_{name}",
            columns=columns,
            made_from={column: [(read.namespace, read.name, column)] for column in columns},
            rows=result.rows_loaded if result else None,
            size=result.bytes if result else None,
        )
        now = datetime.now(timezone.utc)
        times = (ended.started_at or now, ended.finished_at or now)
        parent = (ended.run_id, f"load {self.source.name}")
        return Work("load", name, ended.run_id, *times, [read], [made], ended.cause, parent)
