"""`granary roles`: who may do what, and which people do."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, ready

roles = typer.Typer(
    help="Who may do what: the roles, what each may, and who has it. Roles that are missing are made.",
    invoke_without_command=True,
    epilog="Examples: granary roles · granary roles --json · granary roles grant alice analyst --password"
    " · granary roles revoke alice",
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
    for one in found:
        output.line(f"{one.role:<12} may {one.may}")
        if one.members:
            output.line(f"{'':<12} has it: {', '.join(one.members)}")


@roles.command(
    epilog="Examples: granary roles grant alice analyst --password · granary roles grant bob auditor --password <file"
)
def grant(
    person: Person,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="One that `granary roles` lists.")],
    password: Annotated[
        bool,
        typer.Option("--password", help="Ask for a password, or read it from a pipe; it is sent as a verifier only."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give a person a role, and a login if they have none yet."""
    from granary.warehouse import roles as ways

    settings = ready()
    is_new = ways.grant(settings, person, role, _password() if password else None)
    if as_json:
        output.json({"person": person, "role": role, "login": "made" if is_new else "kept"})
        return
    output.line(f"{person} has the role {role}{', and a new login' if is_new else ''}.")
    if not settings.external:
        output.line(
            "The embedded server lets in nobody but its owner, who can see what they would see: granary psql"
            f' -c \'set role "{person}"\' -c "…". To let others in, use a Postgres of your own (PGHOST).'
        )
    elif is_new and not password:
        output.line("No password was set: the server must know them by other means; or use --password.")


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


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    if not (text := sys.stdin.readline().rstrip("\n")):
        raise typer.BadParameter("--password found none in the pipe")
    return text
