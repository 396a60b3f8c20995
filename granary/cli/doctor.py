"""`granary doctor [SOURCE]` and `granary status --storage`: what could be better, and what the storage is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, existing, ready
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from granary.warehouse.findings import Report
    from granary.warehouse.settings import Settings
    from granary.warehouse.storage import Storage


def register(app: typer.Typer) -> None:
    """Put this command into the command."""
    app.command(epilog="Examples: granary doctor · granary doctor shop · granary doctor --json")(doctor)


def doctor(
    source: Annotated[str, typer.Argument(metavar="[SOURCE]", help="Examine this source, not the warehouse.")] = "",
    as_json: AsJson = False,
) -> None:
    """What could be better, where, how large it is, and the next command.

    With a source, it begins to read each of its tables, and looks at address, rights, clock and server settings;
    nothing is loaded. Without one, it looks for slow steps, indexes that nobody reads or that are missing, bloat and
    dead rows, tables without recent statistics, and settings that do not fit the machine. Exits with 1 if something has
    to be done; hints alone are no reason. It changes nothing, and needs no superuser: what this login may not see is
    left out, and said.
    """
    from dataclasses import asdict

    if source:
        from granary.kinds import examination

        report = examination.examine(ready(), source)
    else:
        from granary.warehouse.doctor import examine

        report = examine(existing())
    output.json({"well": report.well, **asdict(report)}) if as_json else _print(report)
    if not report.well:
        raise typer.Exit(1)


def storage(settings: Settings, *, as_json: bool) -> None:
    """Print what each part of the storage is."""
    from dataclasses import asdict

    from granary.warehouse.storage import look

    found = look(settings)
    if as_json:
        parts = [asdict(part) | {"bytes": part.bytes} for part in found.parts]
        archived = [asdict(one) for one in found.archived]
        said = {"total": found.total, "free": found.free, "left_out": found.left_out, "parts": parts}
        output.json(said | {"archived": archived})
    else:
        _print_storage(found, settings)


def _print(report: Report) -> None:
    if report.findings:
        columns = ("found", "where", "how large", "next")
        rows = [
            (one.what + (" (hint)" if one.severity == "hint" else ""), one.where, one.how_large, one.todo)
            for one in report.findings
        ]
        output.table("What could be better", columns, rows)
    else:
        output.line("Nothing could be better.")
    for left in report.left_out:
        output.line(f"Not looked at: {left}")


def _print_storage(found: Storage, settings: Settings) -> None:
    counted = [part for part in found.parts if not part.held]
    rows = [
        (
            part.what,
            part.tables / 1e6,
            part.indexes / 1e6,
            part.files / 1e6,
            part.bytes / 1e6,
            _share(part.bytes, found),
        )
        for part in counted
    ]
    tables, indexes, files = (sum(getattr(part, kind) for part in counted) for kind in ("tables", "indexes", "files"))
    rows.append(("all", tables / 1e6, indexes / 1e6, files / 1e6, found.total / 1e6, "100 %"))
    output.table("Storage, MB", ("part", "tables", "indexes", "files", "all", "share"), rows)
    for part in found.parts:
        if part.held:
            output.line(f"{part.what}: {part.bytes / 1e6:,.0f} MB of it; `granary doctor` says whose it is")
    for one in found.archived:
        output.line(
            f"Archived in {one.place}: {plural(one.rows, 'row')} of {one.table}, data of {one.since} to {one.until}, in"
            f" {plural(one.files, 'file')} of {one.bytes / 1e6:,.1f} MB;"
            f" in Postgres they took {one.raw_bytes / 1e6:,.1f} MB"
        )
    output.line(f"Free at {settings.home}: {found.free / 1e9:,.1f} GB")
    for left in found.left_out:
        output.line(f"Not looked at: {left}")


def _share(size: int, found: Storage) -> str:
    share = 100 * size / max(1, found.total)
    return f"{share:.0f} %" if share >= 1 else "< 1 %"
