"""`granary explain`: from a row of a mart to the files and lines that it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, existing
from granary.warehouse.errors import GranaryError
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.explain.check import Check
    from granary.explain.origins import LoadRows, Origin
    from granary.explain.trace import Explanation

WIDEST = 60
"""Characters of row numbers that a line shows; --json gives them all."""


def register(app: typer.Typer) -> None:
    """Put this command into the command."""
    app.command(
        epilog="Examples: granary explain marts.daily_orders --where \"business_date = '2026-03-12' and shop_id = 7\""
        " · granary explain marts.monthly_orders --where \"month_start_date = '2026-03-01'\" --column amount"
    )(explain)


def explain(
    mart: Annotated[str, typer.Argument(metavar="MART", help="Such as marts.daily_orders.")],
    where: Annotated[str, typer.Option(metavar="SQL", help="A condition on the mart's columns: which rows.")],
    column: Annotated[str | None, typer.Option(metavar="NAME", help="Follow one number only.")] = None,
    limit: Annotated[int, typer.Option(help="How many rows, loads and refused rows to list at most.", min=1)] = 10,
    as_json: AsJson = False,
) -> None:
    """Where did this number come from? Models, loads, files with their rows, what was refused, and the sums again.

    All rows that meet the condition are traced. Exits with 1 if the mart's numbers are not those of its source rows.
    """
    from granary.explain.condition import ConditionError
    from granary.explain.trace import explain as trace

    settings = existing()
    try:
        found = trace(settings, mart, where, column=column, limit=limit)
    except ConditionError as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        output.json(found)
    else:
        for line in _lines(found, limit):
            output.line(line)
    if found.differences:
        raise GranaryError(
            f"{len(found.differences)} of what was found do{'es' if len(found.differences) == 1 else ''} not agree",
            found.mart,
            "`granary run` brings the marts up to what was loaded; what remains was changed behind the ledger",
        )


def _lines(found: Explanation, limit: int) -> Iterator[str]:
    more = f", of which {limit}" if found.matched > limit else ""
    yield f"{found.mart} where {found.condition}: {_many(found.matched, 'row')}{more}"
    yield from _rows(found)
    if found.hidden:
        yield f"  personal, not shown: {', '.join(found.hidden)}"
    yield from _path(found)
    for origin in found.origins:
        yield ""
        yield from _origin(origin)
    yield from _history(found, limit)
    yield from _sums(found)


def _rows(found: Explanation) -> Iterator[str]:
    if len(found.rows) == 1:
        width = max(len(name) for name in found.rows[0])
        yield from (f"  {name:<{width}}  {_text(value)}" for name, value in found.rows[0].items())
    else:
        yield from (f"  {' · '.join(f'{name} {_text(value)}' for name, value in row.items())}" for row in found.rows)


def _path(found: Explanation) -> Iterator[str]:
    yield ""
    yield "Path"
    for node in found.path:
        rows = "" if node.rows is None else f"  {_many(node.rows, 'row')}"
        yield f"  {'   ' * node.depth}{node.relation}{rows}{'  (see above)' if node.repeated else ''}"
    if found.beside:
        yield f"  Beside these, dbt reads {', '.join(found.beside)}."
    for step in found.column_path:
        yield f"  {step}"
    for note in found.notes:
        yield f"  {note}"


def _origin(origin: Origin) -> Iterator[str]:
    yield f"From {origin.relation}: {_many(origin.used, 'row')} of {_many(origin.load_count, 'load')}"
    for one in origin.loads:
        load = one.load
        yield f"  {load.unit}"
        yield f"    load {load.load_id}, {load.finished_at:%Y-%m-%d %H:%M:%S %Z}, run {load.run_id[:8]}{_content(one)}"
        yield f"    {one.used:,} of {_many(load.rows_loaded, 'row')}{_places(one)}{_refused(load.rows_quarantined)}"
        if one.archive:
            yield f"    its raw rows are archived in {one.archive}"
        if load.rows_forgotten:
            yield f"    {_many(load.rows_forgotten, 'more row')} erased: of a forgotten data subject"
    if origin.load_count > len(origin.loads):
        yield f"  and {_many(origin.load_count - len(origin.loads), 'more load')}: see --limit"


def _content(one: LoadRows) -> str:
    return f", fingerprint {one.load.fingerprint[:12]}" if one.load.fingerprint else ""


def _places(one: LoadRows) -> str:
    rows = one.rows if len(one.rows) <= WIDEST else f"{one.rows[:WIDEST].rpartition(',')[0]}, …"
    gone = f"; {one.gone:,} no longer in raw, which holds newer versions" if one.gone else ""
    which = "" if not rows else f": row {rows}" if rows.isdigit() else f": rows {rows}"
    return f"{which}{gone}"


def _refused(number: int) -> str:
    return f"; {number:,} refused" if number else ""


def _history(found: Explanation, limit: int) -> Iterator[str]:
    yield ""
    if found.replaced:
        yield "Replaced by corrections"
        for load in found.replaced[:limit]:
            yield (
                f"  {load.unit}: load {load.load_id} with {plural(load.rows_loaded, 'row')},"
                f" until load {load.superseded_by}"
                f"{f', fingerprint {load.fingerprint[:12]}' if load.fingerprint else ''}"
            )
        yield from _rest(len(found.replaced), limit)
    else:
        yield "No delivery of these was corrected."
    if found.refused:
        yield "Refused"
        for row in found.refused[:limit]:
            place = f"{row.unit}, row {row.row}" if row.row else row.unit
            line = f", line {row.line}" if row.line is not None else ""
            mine = {True: "; it belongs to these rows", False: "; it belongs to others", None: ""}[row.concerns]
            yield f"  {row.quarantine_id} {row.status}: {place}{line}: {row.column}: {row.reason}{mine}"
        yield from _rest(len(found.refused), limit)
    else:
        yield "No row of these was refused."


def _rest(number: int, limit: int) -> Iterator[str]:
    if number > limit:
        yield f"  and {number - limit:,} more: see --limit"


def _sums(found: Explanation) -> Iterator[str]:
    if not found.checks and not found.differences and not found.not_computed:
        return
    yield ""
    yield "Computed again"
    steps: dict[tuple[str, str], list[Check]] = {}
    for one in found.checks:
        steps.setdefault((one.relation, one.parent), []).append(one)
    for (relation, parent), checks in steps.items():
        agreed = [one for one in checks if not one.differing]
        shown = ", ".join(f"{one.column} {_text(one.recomputed)}" for one in agreed)
        if agreed:
            yield f"  {relation} from {parent}, equal: {shown}"
    for words in found.differences:
        yield f"  DIFFERS: {words}"
    if found.not_computed:
        yield f"  not computed from these rows alone: {', '.join(found.not_computed)}"


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _text(value: object) -> str:
    return "null" if value is None else f"{value}"
