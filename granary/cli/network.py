"""`granary up --listen`: the embedded server answers over the network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.warehouse.errors import GranaryError, UsageError

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

Listen = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Let colleagues and BI tools in here, from now on; `off` ends that."),
]
Clients = Annotated[
    list[str] | None, typer.Option("--from", metavar="NETWORK", help="Only from here, such as 10.1.0.0/16; repeatable.")
]
Certificate = Annotated[Path | None, typer.Option(metavar="FILE", help="The server's; without it, one is made.")]
Key = Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's key, without a passphrase.")]
PlainText = Annotated[
    bool, typer.Option("--plain-text", help="Without TLS, although whoever sees the network can read the answers.")
]


def open_to(
    settings: Settings,
    where: str,
    clients: list[str],
    certificate: Path | None,
    key: Path | None,
    *,
    plain_text: bool,
) -> None:
    """Have the server listen as the options say, and say what people need to connect.

    Raises:
        UsageError: the options contradict each other.
        GranaryError: TLS is wanted and cannot be had, or the address cannot.
    """
    from granary.supervisor.state import is_served
    from granary.warehouse import certificate as certificates
    from granary.warehouse import doors, listen
    from granary.warehouse.layout import SERVER

    if (certificate is None) != (key is None):
        raise UsageError("--certificate and --key go together", todo="give both")
    if plain_text and certificate:
        raise UsageError("--plain-text needs no certificate", todo="leave one of them out")
    wanted = None
    if where != "off":
        host, port = listen.address(where)
        tls = not plain_text and doors.has_tls()
        if not tls and not plain_text and (certificate or not listen.is_loopback(host)):
            raise GranaryError(
                "the embedded server was built without TLS",
                where,
                f"{certificates.INSTALL} (Python 3.12 or newer); or set {SERVER} to the folder of a Postgres 18"
                " with TLS; or, in a network that is encrypted itself, say --plain-text",
            )
        wanted = listen.Listening(
            host,
            port,
            settings.database,
            listen.networks(clients, host),
            tls,
            str(certificate.absolute()) if certificate else None,
            str(key.absolute()) if key else None,
            os.environ.get(SERVER),
        )
    if is_served(settings) and wanted != listen.load(settings.home):
        raise GranaryError(
            "the server has to be started anew, and `granary serve` keeps it up",
            str(settings.home),
            "`granary serve --stop` first",
        )
    doors.let_in(settings, wanted)


def describe(settings: Settings) -> None:
    """Say where the server listens, and what clients need."""
    from granary.warehouse import certificate, listen

    if listening := None if settings.external else listen.load(settings.home):
        output.line(f"It listens at {listening}, for logins of `granary roles grant`.")
        if listening.tls and not listening.certificate:
            output.line(f"Clients trust it by this file: {settings.home / certificate.CERTIFICATE}")


def invite(settings: Settings, person: str) -> None:
    """Say how somebody who has a login gets in."""
    from granary.warehouse import certificate, listen

    if settings.external:
        return
    listening = listen.load(settings.home)
    if listening is None:
        output.line(
            "The embedded server lets in nobody but its owner, who can see what they would see: granary psql"
            f' -c \'set role "{person}"\' -c "…". To let others in: `granary up --listen HOST:PORT`.'
        )
        return
    host = "HOST" if listening.host in listen.EVERYWHERE else listening.host
    trust = f"?sslmode=verify-full&sslrootcert={certificate.CERTIFICATE}" if listening.tls else ""
    output.line(f"Where: postgresql://{person}@{listen.written(host, listening.port)}/{settings.database}{trust}")
