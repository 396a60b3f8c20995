"""`granary anomalies`: what came otherwise than expected, and how it looks beside what came before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, existing

if TYPE_CHECKING:
    from granary.monitoring.anomalies.plot import Drawn
    from granary.monitoring.anomalies.records import Anomaly

SHOWN = 8
"""Series that are drawn, unless a column is named."""
anomalies = typer.Typer(help="What came otherwise than expected.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Put these commands into the command."""
    app.add_typer(anomalies, name="anomalies")


@anomalies.command(name="list", epilog="Examples: granary anomalies list · granary anomalies list shop.orders --all")
def list_(
    table: Annotated[str | None, typer.Argument(metavar="[SOURCE.TABLE]")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Those that are over or muted, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the open anomalies, the newest day first."""
    from granary.monitoring.anomalies import records
    from granary.sources.select import select
    from granary.warehouse.connection import connect

    source, name = select([table])[0] if table else (None, None)
    with connect(existing(), role="loader") as connection:
        found = records.anomalies(connection, source, name, closed=everything)
    found = [one for one in found if everything or not one.muted]
    if as_json:
        output.json(found)
    elif not found:
        output.line("Nothing is unusual." if not everything else "Nothing was unusual.")
    else:
        for one in found:
            output.line(one.message + _state(one))


def _state(one: Anomaly) -> str:
    states = [*(["muted"] if one.muted else []), *([one.closed_because] if one.closed_because else [])]
    return f" ({', '.join(states)})" if states else ""


@anomalies.command(
    epilog="Examples: granary anomalies show shop.orders · granary anomalies show shop.orders --html a.html"
)
def show(
    table: Annotated[str, typer.Argument(metavar="SOURCE.TABLE")],
    column: Annotated[str | None, typer.Option(help="A column, with all that is measured of it.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with pictures of every series.")
    ] = None,
) -> None:
    """Draw what came in the last days beside what was expected: the rows, and every series with an open anomaly."""
    from granary.load.api import find
    from granary.monitoring.anomalies import look, records
    from granary.monitoring.anomalies.judge import ROWS
    from granary.monitoring.anomalies.plot import spark
    from granary.pages.anomalies import write_page
    from granary.sources.select import select
    from granary.warehouse.connection import connect

    if len(chosen := select([table])) != 1:
        raise typer.BadParameter(f"{table!r} is not a single table; write SOURCE.TABLE")
    (source, of), settings = chosen[0], existing()
    contract = find(source, of)[1]
    if column is not None and column not in {one.name for one in contract.columns}:
        raise typer.BadParameter(f"{table} has no column {column!r}")
    with connect(settings, role="loader") as connection:
        found = [one for one in records.anomalies(connection, source, of) if not one.muted]
        quiet = look.quiet_days(connection, source, contract)
    keys = look.every_key(settings, source, contract)
    if html is not None:
        write_page(html, table, look.series(settings, source, contract, keys), found)
        output.line(f"Written: {html}")
        return
    wanted = [key for key in keys if key[0] == column] if column else [ROWS, *(one.key for one in found)]
    for key, drawn in look.series(settings, source, contract, list(dict.fromkeys(wanted))[:SHOWN]).items():
        if drawn:
            blocks, marks = spark(drawn)
            name = " ".join(key).strip()
            output.line(f"{name}, {drawn[0].day} to {drawn[-1].day}; last {_last(drawn, key[1])}")
            output.line(f"  {blocks}")
            if marks:
                output.line(f"  {marks}")
    for words in records.lines(found):
        output.line(words)
    if quiet:
        output.line(f"Quiet: {quiet} more days have to come until something is expected.")


def _last(drawn: list[Drawn], metric: str) -> str:
    """Return the last value of a series and what was expected of it."""
    from granary.monitoring.anomalies.metrics import METRICS, shown

    kind, one = METRICS[metric].kind, drawn[-1]
    if one.band is None:
        return f"{shown(one.value, kind)}, nothing expected yet"
    return f"{shown(one.value, kind)}, expected {shown(one.band.low, kind)} to {shown(one.band.high, kind)}"
