"""What a person sees: lines, tables and progress; JSON for programs."""

from __future__ import annotations

import dataclasses
import json as _json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from granary.health import Health
    from ingestion.load import LoadResult
    from ingestion.load import Progress as LoadProgress

console = Console(highlight=False, soft_wrap=False)


def line(text: str) -> None:
    """Print one line."""
    console.print(text, markup=False, soft_wrap=True)


def json(value: Any) -> None:
    """Print a dataclass, or a list of them, as JSON."""

    def plain(item: Any) -> Any:
        return dataclasses.asdict(item) if dataclasses.is_dataclass(item) and not isinstance(item, type) else item

    print(_json.dumps([plain(v) for v in value] if isinstance(value, list) else plain(value), default=str, indent=1))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; numbers stand to the right with thousands separators, columns that say nothing stay away."""
    said = [i for i in range(len(columns)) if i == 0 or not rows or any(row[i] not in (0, "", None) for row in rows)]
    columns, rows = [columns[i] for i in said], [[row[i] for i in said] for row in rows]
    view = Table(title=title, title_justify="left", title_style="bold")
    for index, name in enumerate(columns):
        numbers = rows and all(isinstance(row[index], (int, float)) or row[index] is None for row in rows)
        view.add_column(name, justify="right" if numbers else "left", no_wrap=name != "error")
    for row in rows:
        view.add_row(*[_cell(value) for value in row])
    console.print(view)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


@contextmanager
def loading(*, quiet: bool) -> Iterator[Callable[[LoadProgress], None] | None]:
    """Show a row per table with its unit, rows so far and time while loads run."""
    if quiet:
        yield None
        return
    bars = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[rows]:>12,} rows"),
        TimeElapsedColumn(), TextColumn("{task.fields[unit]}"), console=console, transient=True,
    )  # fmt: skip
    tasks: dict[str, Any] = {}
    totals: dict[str, dict[str, int]] = {}

    def update(progress: LoadProgress) -> None:
        name = f"{progress.source}.{progress.table}"
        if name not in tasks:
            tasks[name] = bars.add_task(name, total=None, rows=0, unit="")
        seen = totals.setdefault(name, {})
        seen[progress.unit] = progress.rows
        bars.update(tasks[name], rows=sum(seen.values()), unit=progress.unit)

    with bars:
        yield update


def loads(results: Sequence[LoadResult]) -> None:
    """Print what each table load did."""
    table(
        "Loaded",
        ("table", "status", "units", "read", "loaded", "quarantined", "deleted", "seconds"),
        [
            (
                f"{r.source}.{r.table}", r.status, r.units, r.rows_read, r.rows_loaded, r.rows_quarantined,
                r.rows_deleted, r.seconds,
            )
            for r in results
        ],
    )  # fmt: skip


def health(found: Health) -> None:
    """Print the server's, the loads' and the layers' state."""
    line(f"Server: {'up' if found.running else 'down, start it with `granary up`'} ({found.server})")
    if found.loads:
        table(
            "Last load of each table",
            ("table", "status", "finished", "rows in 24 h", "quarantined", "error"),
            [
                (
                    f"{load['source']}.{load['table_name']}", load["status"],
                    f"{load['finished_at']:%Y-%m-%d %H:%M:%S}", load["rows_today"], load["quarantined"], load["error"] or "",
                )
                for load in found.loads
            ],
        )  # fmt: skip
    if found.layers:
        table(
            "Schemas",
            ("schema", "relations", "rows, about", "MB"),
            [(r["layer"], r["relations"], r["rows_about"], r["bytes"] / 1e6) for r in found.layers],
        )
