"""What dbt built in a run, when and for how long: a plot as a table, which the run's own page shows.

For Dagster all of dbt is one step (see `dbt_assets`), so its own chart has one bar for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.events import EngineEventData  # there is no public name for it

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH = 40
"""Characters from the first begin to the last end."""
COLUMNS = ("began", "seconds", "node", "layer", "when")


@dataclass(frozen=True)
class Span:
    """A node of dbt: when it began and ended, and whether that was well."""

    name: str
    layer: str
    began: datetime
    ended: datetime
    well: bool

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended - self.began).total_seconds()


def span(node_info: Mapping[str, Any], name: str, layer: str) -> Span | None:
    """Return the span of a finished node as dbt's event tells it; None if it was left out."""
    times = (node_info.get("node_started_at"), node_info.get("node_finished_at"))
    if not all(times):
        return None
    began, ended = (datetime.fromisoformat(str(time).replace("Z", "+00:00")) for time in times)
    return Span(name, layer, began, ended, str(node_info.get("node_status")) in ("success", "pass", "warn"))


def plot(spans: Sequence[Span]) -> dg.TableMetadataValue:
    """Return the spans in the order in which they began, each with a bar over the whole time."""
    first, last = min(one.began for one in spans), max(one.ended for one in spans)
    whole = (last - first).total_seconds() or 1.0
    records = []
    for one in sorted(spans, key=lambda one: (one.began, one.name)):
        start = int((one.began - first).total_seconds() / whole * (WIDTH - 1))
        length = max(1, round(one.seconds / whole * WIDTH))
        bar = ("·" * start + ("█" if one.well else "✗") * length)[:WIDTH].ljust(WIDTH, "·")
        values = (f"{one.began:%H:%M:%S}", f"{one.seconds:.1f}", one.name, one.layer, bar)
        records.append(dg.TableRecord(dict(zip(COLUMNS, values, strict=True))))
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name) for name in COLUMNS]))


def report(context: dg.AssetExecutionContext, spans: Sequence[Span]) -> None:
    """Put the plot into the run's page."""
    if spans:
        seconds = (max(one.ended for one in spans) - min(one.began for one in spans)).total_seconds()
        slowest = max(spans, key=lambda one: one.seconds)
        words = f"dbt: {len(spans)} nodes in {seconds:.1f} s, the longest {slowest.name} with {slowest.seconds:.1f} s"
        context.instance.report_engine_event(
            words, context.run, EngineEventData({"times (UTC)": plot(spans)}), step_key="dbt"
        )
