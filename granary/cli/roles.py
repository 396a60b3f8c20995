"""`granary roles`: who may do what, and which people do."""

from __future__ import annotations

import sys
from datetime import date
from secrets import token_urlsafe
from typing import Annotated

import typer

from granary.cli import network, output
from granary.cli.options import AsJson, business_date, ready
from granary.warehouse.errors import UsageError

SHORTEST = 12
"""Characters of a password that somebody chose: it may be guessed at over the network."""

roles = typer.Typer(
    help="Who may do what: the roles, what each may, and who has it. Roles that are missing are made.",
    invoke_without_command=True,
    epilog="Examples: granary roles · granary roles --json · granary roles logins"
    " · granary roles grant alice analyst --generate · granary roles revoke alice · granary roles script --for rds",
)

Person = Annotated[str, typer.Argument(metavar="PERSON", help="The name of a login in Postgres.")]


def register(app: typer.Typer) -> None:
    """Put these subcommands into the command."""
    app.add_typer(roles, name="roles")


@roles.callback()
def list_roles(context: typer.Context, as_json: AsJson = False) -> None:
    """Who may do what: the roles, what each may, and who has it. Roles that are missing are made."""
    if context.invoked_subcommand:
        return
    from granary.warehouse import roles as ways

    found = ways.roles(ready())
    if as_json:
        output.json(found)
        return
    width = max(12, *(len(one.name) for one in found))
    for one in found:
        output.line(f"{one.name:<{width}} may {one.may}")
        if one.members:
            output.line(f"{'':<{width}} has it: {', '.join(one.members)}")


@roles.command(epilog="Examples: granary roles logins · granary roles logins --json")
def logins(as_json: AsJson = False) -> None:
    """People's logins: their roles, what they may take of the server, and until when their password is valid."""
    from granary.warehouse import roles as ways

    found = ways.logins(ready())
    if as_json:
        output.json(found)
        return
    output.table(
        "Logins",
        ("login", "roles", "connections", "statement", "idle transaction", "password until"),
        [
            (
                one.login, ", ".join(one.roles), one.limits.connections or "any", one.limits.statement or "any",
                one.limits.idle or "any", one.until or "any day",
            )
            for one in found
        ],
    )  # fmt: skip


@roles.command(
    epilog="Examples: granary roles grant alice analyst --generate --until 2027-06-30"
    " · granary roles grant bob auditor --password-from file:/run/secrets/bob · granary roles grant alice analyst_pii"
)
def grant(
    person: Person,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="One that `granary roles` lists.")],
    password: Annotated[
        bool,
        typer.Option("--password", help="Ask for a password, or read it from a pipe; it is sent as a verifier only."),
    ] = False,
    generate: Annotated[bool, typer.Option("--generate", help="Make a password, and show it this once.")] = False,
    source: Annotated[
        str | None, typer.Option("--password-from", metavar="SOURCE", help="env:NAME, file:PATH or command:PROGRAM ….")
    ] = None,
    until: Annotated[
        date | None,
        typer.Option(metavar="DATE", parser=business_date, help="The password's last day (UTC). Default: for ever."),
    ] = None,
    connections: Annotated[
        int | None, typer.Option(min=1, help="At a time at most. Default: the role's limit.")
    ] = None,
    statement_timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Such as 10min, per statement.")] = None,
    idle_timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Of a transaction that does nothing.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give a person a role, and a login if they have none yet; or give a login another password or other limits."""
    from granary.warehouse import roles as ways
    from granary.warehouse import secret

    if password + generate + (source is not None) > 1:
        raise UsageError("--password, --generate and --password-from exclude each other", todo="give one of them")
    word = _password() if password else token_urlsafe(24) if generate else secret.read(source) if source else None
    if word is not None and len(word) < SHORTEST:
        raise UsageError(
            f"a password has at least {SHORTEST} characters", todo="choose a longer one, or use --generate"
        )
    settings = ready()
    limits = ways.Limits(connections, statement_timeout, idle_timeout)
    is_new = ways.grant(settings, person, role, word, limits, until)
    if as_json:
        made = {"password": word} if generate else {}
        output.json({"person": person, "role": role, "login": "made" if is_new else "kept", **made})
        return
    output.line(f"{person} has the role {role}{', and a new login' if is_new else ''}.")
    if generate:
        output.line(f"Password, shown this once: {word}")
    if is_new and not word:
        output.line("No password was set: the server must know them by other means; or use --generate.")
    network.invite(settings, person)


@roles.command(epilog="Examples: granary roles revoke alice analyst_pii · granary roles revoke alice")
def revoke(
    person: Person,
    role: Annotated[str | None, typer.Argument(metavar="[ROLE]", help="Default: all, and the login.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take a role from a person; without ROLE all of them, and the login with what it has open."""
    from granary.warehouse import roles as ways

    became = ways.revoke(ready(), person, role)
    if as_json:
        output.json({"person": person, "role": role, "login": became})
    elif role:
        output.line(f"{person} no longer has the role {role}.")
    elif became == "dropped":
        output.line(f"{person} has no role and no login any more.")
    else:
        output.line(
            f"{person} has no role any more and cannot log in. The login stays, since it owns something:"
            f" granary psql -c 'drop owned by \"{person}\"' removes that."
        )


@roles.command(
    epilog="Examples: granary roles script --for rds >warehouse.sql · PGUSER=etl PGDATABASE=shop granary roles script"
)
def script(
    platform: Annotated[
        str, typer.Option("--for", metavar="KIND", help="Whose server it is: plain, rds, cloudsql or azure.")
    ] = "plain",
    prefix: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="How the roles' names begin. Default: with the database's, as granary_."),
    ] = None,
) -> None:
    """Print the SQL by which an administrator makes the login of PGUSER, the roles and the databases: all it needs."""
    from granary.warehouse.role_script import script as text_of
    from granary.warehouse.settings import Settings

    output.line(text_of(Settings.load(), platform, prefix))


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    if not (text := sys.stdin.readline().rstrip("\n")):
        raise typer.BadParameter("--password found none in the pipe")
    return text
