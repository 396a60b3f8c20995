"""What the command prints: lines and tables; JSON for programs."""

from __future__ import annotations

import dataclasses
import json as _json
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console

from granary.cli.tables import print_table
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.cli.health import Health
    from granary.dagster.run import AssetOutcome, RunOutcome
    from granary.load.api import LoadResult
    from granary.monitoring.anomalies.look import Look
    from granary.scaffold.plan import PlannedSource

NOT_LOADED = {
    "unreadable": "is in quarantine",
    "failed": "could not be loaded",
    "duplicate": "was not loaded",
    "waiting": "waits",
    "passed over": "is passed over",
}
"""What is said of a unit that a load did not take, by its outcome."""

SHOWN_UNITS = 10
"""Units of one table and outcome that are named."""

INCIDENTS_NAMED = 5
"""Open incidents that are named."""
console = Console(highlight=False, soft_wrap=False)


def line(text: str) -> None:
    """Print one line."""
    console.print(text, markup=False, soft_wrap=True)


def json(value: Any) -> None:
    """Print a dataclass, or a list of them, as JSON."""

    def plain(item: Any) -> Any:
        return dataclasses.asdict(item) if dataclasses.is_dataclass(item) and not isinstance(item, type) else item

    print(
        _json.dumps([plain(v) for v in value] if isinstance(value, list) else plain(value), default=_number, indent=1)
    )


def _number(value: object) -> float | str:
    """Return a decimal as a number if it keeps its digits so, and anything else as text."""
    near = float(value) if isinstance(value, Decimal) else None
    return near if near is not None and Decimal(repr(near)) == value else str(value)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, or a paragraph per row where it has no room."""
    print_table(console, title, columns, rows)


def loads(results: Sequence[LoadResult]) -> None:
    """Print what each table load did."""
    if not results:
        return
    table(
        "Loaded",
        ("table", "status", "units", "read", "loaded", "quarantined", "forgotten", "deleted", "seconds"),
        [
            (
                f"{r.source}.{r.table}", r.status, r.units, r.rows_read, r.rows_loaded, r.rows_quarantined,
                r.rows_forgotten, r.rows_deleted, r.seconds,
            )
            for r in results
        ],
    )  # fmt: skip
    for r in results:
        for change in r.changes:
            what = f"column {change.column} " if change.column else ""
            line(f"{r.source}.{r.table}: {what}{change.change}: {change.detail}")
        for warning in r.warnings:
            line(f"{r.source}.{r.table}: {warning}")
        for refused in r.refused:
            line(f"{r.source}.{r.table}: refused: {refused}")
    not_loaded(results)
    if any(r.rows_quarantined for r in results):
        line("Refused rows are kept: `granary quarantine list` has them all.")


def unusual(looks: Sequence[Look]) -> None:
    """Say on standard error what has come otherwise than expected, as far as it is new."""
    from granary.monitoring.anomalies.records import lines

    for one in looks:
        for words in [*lines(one.new), *([one.problem] if one.problem else [])]:
            print(f"granary: warning: {words}", file=sys.stderr)


def not_loaded(results: Sequence[LoadResult]) -> None:
    """Print what loads saw and did not load, and why; what no table takes is reported once for its source."""
    by_outcome: dict[tuple[str, str], dict[str, str]] = {}
    for r in results:
        for one in r.not_loaded:
            place = r.source if one.outcome == "passed over" else f"{r.source}.{r.table}"
            by_outcome.setdefault((place, one.outcome), {})[one.unit] = one.reason
    for (place, outcome), units in by_outcome.items():
        for unit, reason in list(units.items())[:SHOWN_UNITS]:
            text = f"{place}: {unit} {NOT_LOADED[outcome]}: {reason}"
            print(f"granary: {text}", file=sys.stderr) if outcome == "failed" else line(text)
        if (more := len(units) - SHOWN_UNITS) > 0:
            line(f"{place}: {more:,} more {NOT_LOADED[outcome]}: see `granary load --json`, or ops.files_not_loaded.")
    if any(outcome == "duplicate" for _, outcome in by_outcome):
        line("A file with the content of another one is loaded by `granary load SOURCE.TABLE --accept FILE`.")


def files(contents: Mapping[str, str]) -> None:
    """Print files that would be written."""
    for path, content in contents.items():
        line(f"── {path}")
        print(content)


def planned(source: PlannedSource) -> None:
    """Print what was found at a new source, and what was left out."""
    line(f"Source {source.name} ({source.kind})")
    for t in source.tables:
        parts = [
            f"{'all' if t.complete else 'the first'} {plural(t.rows, 'row')} seen",
            f"{plural(len(t.columns), 'column')}",
        ]
        unsure = "" if t.sure else " (a guess: no two of these rows have the same)"
        parts += [f"key {', '.join(t.key)}{unsure}"] if t.key else ["no key"]
        parts += [f"cursor {t.cursor}"] if t.cursor else []
        personal = ", ".join(c.name for c in t.columns if c.personal)
        line(f"  {t.name}: {'; '.join(parts + ([f'personal: {personal}'] if personal else []))}")
    guesses(source)


def guesses(source: PlannedSource) -> None:
    """Print what was guessed, and what was left out."""
    if source.notes:
        line("Guessed; correct what is wrong in the files:")
    for words in source.notes:
        line(f"  {words}")
    for reason in source.skipped:
        line(f"Left out: {reason}")


def health(found: Health) -> None:
    """Print the server's, the loads' and the layers' state."""
    line(f"Server: {'up' if found.running else 'down, start it with `granary up`'} ({found.server})")
    for said in found.door:
        line(said)
    if found.services:
        table(
            "Services, kept at work by `granary serve` (UTC)",
            ("service", "state", "since", "restarts", "pid", "MB"),
            [
                (
                    one.name, one.status, f"{one.since:%Y-%m-%d %H:%M:%S}", one.restarts, str(one.pid or ""),
                    "" if one.memory is None else one.memory / 1e6,
                )
                for one in found.services
            ],
        )  # fmt: skip
    if found.loads:
        table(
            "Last load of each table",
            ("table", "status", "finished", "rows in 24 h", "quarantined", "forgotten", "error"),
            [
                (
                    f"{load['source']}.{load['table_name']}",
                    load["status"] if load["declared"] else f"{load['status']}, no longer declared",
                    f"{load['finished_at']:%Y-%m-%d %H:%M:%S}", load["rows_today"], load["quarantined"],
                    load["forgotten"], load["error"] or "",
                )
                for load in found.loads
            ],
        )  # fmt: skip
    for problem in (*found.unusable, *found.lost):
        line(problem)
    if any(not load["declared"] for load in found.loads):
        line(
            "What is no longer declared in ingestion/ does not count. Its raw tables and its lines in the"
            " ledger stay for the record; `drop schema raw_<source> cascade` in `granary psql` removes the tables."
        )
    for load in found.loads:
        if load["is_late"]:
            line(f"Late: {load['late']}")
    if found.erasures:
        line(f"{plural(found.erasures, 'data subject')} forgotten.")
    if found.erasures_open:
        line(f"{found.erasures_open:,} of them still in the warehouse or its marts: `granary forget --again`.")
    for said in (*found.marts.problems, *found.twin_said):
        line(said)
    _incidents(found.incidents)
    if found.layers:
        table(
            "Schemas",
            ("schema", "relations", "rows, about", "MB"),
            [(r["layer"], r["relations"], r["rows_about"], r["bytes"] / 1e6) for r in found.layers],
        )


def _incidents(found: Sequence[Mapping[str, Any]]) -> None:
    """Name the open incidents."""
    if not found:
        return
    causes = [f"{one['cause']} ({one['severity']}, #{one['incident_id']})" for one in found]
    more = f" and {len(causes) - INCIDENTS_NAMED:,} more" if causes[INCIDENTS_NAMED:] else ""
    line(f"Incidents: {', '.join(causes[:INCIDENTS_NAMED])}{more}: `granary incidents list`")


def outcome(done: RunOutcome) -> None:
    """Print a table per layer, and what failed if something did."""
    layers: dict[str, list[AssetOutcome]] = {}
    for asset in done.assets:
        layers.setdefault(asset.group, []).append(asset)
    table(
        f"Run {done.run_id[:8]}, job {done.job}: {'succeeded' if done.success else 'failed'} in {done.seconds:.0f} s",
        ("layer", "tables", "rows", "checks passed", "seconds"),
        [
            (
                layer,
                len(assets),
                sum(asset.rows or 0 for asset in assets),
                done.checks_by_group.get(layer, 0),
                sum(asset.seconds for asset in assets),
            )
            for layer, assets in layers.items()
        ],
    )
    if done.checks_passed or done.checks_failed or done.warnings:
        line(f"Checks: {done.checks_passed:,} passed, {done.checks_failed:,} failed, {len(done.warnings):,} warnings.")
    else:
        line("Nothing was built, so there was nothing to check.")
    for name in done.warnings:
        line(f"warning: {name}")
    for problem in done.failures:
        print(f"granary: {problem}", file=sys.stderr)
    if not done.success:
        line(f"The run's log: {done.log}; look at it in `make ui`.")
