"""`granary metric`: what a metric is, asked for by its name."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, business_date
from granary.warehouse.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(
        epilog="Examples: granary metric sales · granary metric sales orders --by metric_time__month --from 2026-01-01"
        " · granary metric sales --by store --order -sales --limit 10 · granary metric sales --sql"
    )(metric)


def metric(
    names: Annotated[list[str], typer.Argument(metavar="METRIC...", help="As `mf list metrics` names them.")],
    by: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A dimension or a time; repeatable.")] = None,
    where: Annotated[list[str] | None, typer.Option(metavar="FILTER", help="A filter; repeatable.")] = None,
    first: Annotated[
        date | None, typer.Option("--from", metavar="DATE", parser=business_date, help="First day.")
    ] = None,
    last: Annotated[date | None, typer.Option("--to", metavar="DATE", parser=business_date, help="Last day.")] = None,
    order: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Sorted by this, downwards with a - in front.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many rows.")] = None,
    role: Annotated[str, typer.Option(help="With whose rights; analyst_pii sees personal columns.")] = "analyst",
    sql: Annotated[bool, typer.Option("--sql", help="Show the query, and run none.")] = False,
    as_json: AsJson = False,
) -> None:
    """Answer a question for metrics, with an analyst's rights.

    A process that has MetricFlow loaded answers; it is started when there is none, and ends after 15 minutes.
    """
    from granary.dbt.metric_process import ask
    from granary.dbt.semantic import Question

    question = Question(
        tuple(names),
        tuple(by or ()),
        tuple(where or ()),
        first.isoformat() if first else None,
        last.isoformat() if last else None,
        tuple(order or by or ()),
        limit,
    )
    settings = Settings.load()
    if sql:
        from granary.dbt import semantic

        print(semantic.sql(settings, question))
        return
    answer = ask(settings, question, role)
    if as_json:
        output.json([dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]])
    else:
        rows = [[f"{one:,.10g}" if isinstance(one, float) else one for one in row] for row in answer["rows"]]
        output.table("", answer["columns"], rows)
