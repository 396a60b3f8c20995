"""`granary capture`: change data capture from Postgres, MySQL and MariaDB."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli.options import AsJson, ready

if TYPE_CHECKING:
    from granary.cdc.capture_status import CaptureStatus
    from granary.sources.spec import Source
    from granary.warehouse.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(
        epilog="Examples: granary capture erp · granary capture erp --follow · granary capture --status"
        " · granary capture erp --snapshot"
    )(capture)


def capture(
    source: Annotated[str | None, typer.Argument(metavar="[SOURCE]", help="Default: every captured source.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--once", help="Go on until Ctrl-C, or take what there is and end.")
    ] = False,
    snapshot: Annotated[bool, typer.Option("--snapshot", help="Copy everything again, with a new slot.")] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Show positions and lag; exit 1 if there is an alarm.")
    ] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Remove slot and publication at the source.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take changes from the log of a Postgres, MySQL or MariaDB source into raw tables.

    The first time, every table is copied. Each lands twice: as a table of changes, which only grows, and as it is now.
    """
    if status + drop + (follow or snapshot) > 1:
        raise typer.BadParameter("--status, --drop and --follow or --snapshot exclude each other")
    sources = _captured(source)
    if source is None and (drop or snapshot):
        raise typer.BadParameter("name the source")
    if follow and len(sources) > 1:
        raise typer.BadParameter("name the source to follow")
    settings = ready()
    if status:
        _status(settings, sources, as_json)
    elif drop:
        _drop(settings, sources[0], as_json)
    else:
        _take(settings, sources, follow, snapshot, as_json)


def _status(settings: Settings, sources: list[Source], as_json: bool) -> None:
    from granary.cdc.status import status
    from granary.cli import output

    found = [status(settings, source) for source in sources]
    output.json(found) if as_json else _show(found)
    if any(one.alarms for one in found):
        raise typer.Exit(1)


def _drop(settings: Settings, source: Source, as_json: bool) -> None:
    from granary.cdc.capture import drop
    from granary.cli import output

    done = drop(settings, source)
    output.json({"source": source.name, "done": done}) if as_json else output.line(" ".join(done))


def _take(settings: Settings, sources: list[Source], follow: bool, anew: bool, as_json: bool) -> None:
    from granary.cdc.capture import opened
    from granary.cli import output

    results = []
    for source in sources:
        with opened(settings, source) as capturing:
            capturing.once(anew=anew)
            if follow:
                output.line(f"Following {source.name} from {capturing.result().lsn}; Ctrl-C ends it.")
                # What is under way is rolled back, and taken again the next time.
                with suppress(KeyboardInterrupt):
                    capturing.follow()
            results.append(capturing.result())
    if as_json:
        output.json(results)
        return
    output.table(
        "Captured",
        ("source", "rows copied", "changes", "refused", "up to", "seconds"),
        [(r.source, r.rows_copied, r.changes, r.refused, r.lsn, r.seconds) for r in results],
    )


def _captured(name: str | None) -> list[Source]:
    from granary.sources.discovery import BROKEN, SOURCES
    from granary.warehouse.errors import GranaryError, unknown

    if name and name in BROKEN:
        raise BROKEN[name]
    captured = {source.name: source for source in SOURCES.values() if source.capture}
    if name is None and captured:
        return list(captured.values())
    if name in captured:
        return [captured[name]]
    if name:
        raise unknown(
            "captured source", name, captured, todo="" if captured else "see `granary guide sources/change-capture`"
        )
    raise GranaryError("no source is captured", todo="see `granary guide sources/change-capture`")


def _show(found: list[CaptureStatus]) -> None:
    from granary.cli import output

    for one in found:
        reader, log = (f"slot {one.slot}", "wal_status") if one.publication else (one.slot, "log")
        age = "unknown" if one.lag_seconds is None else f"{one.lag_seconds:,.1f} s"
        output.line(
            f"{one.source}: {reader}, {one.phase}, stored up to {one.lsn or 'nothing'}, {log} {one.wal_status}\n"
            f"  lag {_bytes(one.lag_bytes)}, {age}; held at the source {_bytes(one.held_bytes)};"
            f" alarm over {one.alarm_bytes:,} bytes or {one.alarm_seconds:,.0f} s"
        )
    for one in found:
        for alarm in one.alarms:
            output.line(f"ALARM {one.source}: {alarm}")


def _bytes(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,} bytes"
