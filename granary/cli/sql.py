"""`granary sql`: a query, answered by whoever is quicker."""

from __future__ import annotations

import csv
import json
import sys
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from granary.cli.options import existing
from granary.warehouse.errors import UsageError
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from granary.twin.asking import Route
    from granary.warehouse.settings import Settings

Format = Literal["table", "csv", "json", "parquet"]
Row = tuple[str | None, ...]
NUMBERS = ("smallint", "integer", "bigint", "numeric", "decimal", "hugeint")
"""How types of whole and decimal numbers begin."""
MEASURED = 1000
"""Rows of which the widths of a table's columns are taken."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(
        epilog='Examples: granary sql "select count(*) from marts.fct_orders"'
        ' · granary sql --format csv "select * from marts.dim_store order by 1" > stores.csv'
        ' · granary sql --at 118 "select sum(amount) from marts.fct_orders"'
    )(sql)


def sql(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="One query of marts, named as `marts.NAME`.")],
    twin: Annotated[bool, typer.Option("--twin", help="The twin answers, in DuckDB's SQL.")] = False,
    postgres: Annotated[bool, typer.Option("--postgres", help="Postgres answers.")] = False,
    at: Annotated[
        str | None, typer.Option(metavar="PUBLISH", help="As an earlier publish left the marts: its number or a time.")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="How the answer is printed; all but table are exact.")
    ] = "table",
    role: Annotated[str, typer.Option(help="With whose rights; analyst_pii sees personal columns.")] = "analyst",
) -> None:
    """Answer a query, with an analyst's rights; nothing is written.

    Where the project has a twin of its marts, it answers if the answer is the same and comes sooner; who did is said on
    standard error. With --twin it answers whatever it makes of the query. Times are UTC.
    """
    from granary.twin import answers

    if twin and postgres:
        raise UsageError("--twin and --postgres exclude each other", todo="give one of them")
    if postgres and at:
        raise UsageError("--at is answered by the twin", todo="leave out --postgres, or make views: `granary as-of`")
    if form == "parquet" and sys.stdout.isatty():
        raise UsageError("Parquet is nothing for a terminal", todo="send it into a file: > answer.parquet")
    settings, text = existing(), answers.one_query(query)
    chosen = _chosen(settings, text, role, at, twin=twin, postgres=postgres)
    print(f"granary: {chosen.engine} answers ({chosen.why})", file=sys.stderr)
    if form == "parquet":
        _parquet(settings, text, chosen, role)
    else:
        _print(form, *answers.texts(settings, text, chosen, role))


def _chosen(settings: Settings, text: str, role: str, at: str | None, *, twin: bool, postgres: bool) -> Route:
    from granary.twin import asking
    from granary.warehouse import publishes

    if postgres:
        return asking.Route("postgres", "it was asked for")
    if twin or at:
        publish = publishes.find(settings, at).publish_id if at else None
        return asking.forced(settings, text, role, publish)
    return asking.route(settings, text, role)


def _parquet(settings: Settings, text: str, chosen: Route, role: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    from granary.twin import answers
    from granary.warehouse import reading

    if chosen.engine == "twin":
        table = answers.arrow(settings, chosen, role)
        parquet.write_table(table, pa.PythonFile(sys.stdout.buffer))
        return
    reader = reading.read(text, "batches", role=role)
    with parquet.ParquetWriter(pa.PythonFile(sys.stdout.buffer), reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def _print(form: str, names: Sequence[str], kinds: Sequence[str], rows: Iterable[Row]) -> None:
    if form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
    elif form == "json":
        for line in _json(names, kinds, rows):
            print(line)
    else:
        for line in _table(names, kinds, rows):
            print(line)


def _json(names: Sequence[str], kinds: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """Yield a JSON array of an object per row, a row a line."""
    before = "["
    for row in rows:
        values = {name: _value(one, kind) for name, one, kind in zip(names, row, kinds, strict=True)}
        members = ", ".join(f"{json.dumps(name)}: {one}" for name, one in values.items())
        yield f"{before}{{{members}}}"
        before = ","
    yield "[]" if before == "[" else "]"


def _value(text: str | None, kind: str) -> str:
    """Return a value as JSON; numbers with all their digits."""
    if text is None:
        return "null"
    if kind == "boolean":
        return "true" if text in {"t", "true"} else "false"
    if kind in {"json", "jsonb"}:
        return text
    is_number = kind.startswith(NUMBERS) and text.lstrip("-").replace(".", "", 1).isdigit()
    return text if is_number else json.dumps(text)


def _table(names: Sequence[str], kinds: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of a table, numbers to the right; the widths are those of the first rows."""
    lines = iter(rows)
    first = [row for row, _ in zip(lines, range(MEASURED), strict=False)]
    widths = [max(len(name), *(len(row[n] or "") for row in first), 1) for n, name in enumerate(names)]
    yield " | ".join(f"{name:<{width}}" for name, width in zip(names, widths, strict=True)).rstrip()
    yield "-+-".join("-" * width for width in widths)
    count = 0
    for row in chain(first, lines):
        count += 1
        yield " | ".join(_cell(*one) for one in zip(row, kinds, widths, strict=True)).rstrip()
    yield f"({plural(count, 'row')})"


def _cell(text: str | None, kind: str, width: int) -> str:
    shown: Any = (text or "").replace("\n", " ")
    return f"{shown:>{width}}" if kind.startswith(NUMBERS) else f"{shown:<{width}}"
