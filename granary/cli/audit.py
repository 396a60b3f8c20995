"""`granary audit`: who changed what, and who read what."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, business_date, existing


def register(app: typer.Typer) -> None:
    """Put this command into the command."""
    app.command(epilog="Examples: granary audit · granary audit --since 2026-11-01 --who ada · granary audit --reads")(
        audit
    )


def audit(
    since: Annotated[
        date | None,
        typer.Option(metavar="DATE", parser=business_date, help="From this day on, in UTC. Default: the last 30 days."),
    ] = None,
    who: Annotated[str | None, typer.Option(metavar="NAME", help="Of one login, role or person only.")] = None,
    reads: Annotated[
        bool, typer.Option("--reads", help="What people's logins have asked, instead; embedded server only.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many to list at most, the newest.")] = 200,
    as_json: AsJson = False,
) -> None:
    """List who changed what: structures, grants, roles, quarantine decisions, erasures, publishes.

    With --reads: the statements of those who were let in by `granary roles grant`, without the values in them. The log
    of an external server is its own: log there, or use pgaudit.
    """
    from granary.warehouse import trail
    from granary.warehouse.errors import GranaryError

    settings = existing()
    if reads and settings.external:
        raise GranaryError(
            "the log of an external server is not here", settings.host, "read it there; `granary guide security`"
        )
    now = datetime.now(timezone.utc)
    first = datetime.combine(since, datetime.min.time(), timezone.utc) if since else now - timedelta(days=30)
    found = (trail.reads if reads else trail.changes)(settings, first, who)[:limit]
    if as_json:
        output.json(found)
        return
    if not found:
        output.line("Nothing since then.")
    for one in found:
        by = one.login if one.role == one.login else f"{one.login} as {one.role}"
        by += f" ({one.person})" if one.person else ""
        details = f": {one.details}" if one.details else ""
        output.line(f"{one.at:%Y-%m-%d %H:%M:%S} {by} {one.action} {one.object}{details}")
