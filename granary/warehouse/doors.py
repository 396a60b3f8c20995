"""Opens the embedded server to the network, and closes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granary.warehouse import certificate, listen, server
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.layout import find_binaries, output_of, plan

if TYPE_CHECKING:
    from granary.warehouse.listen import Listening
    from granary.warehouse.settings import Settings


def let_in(settings: Settings, wanted: Listening | None) -> None:
    """Have the embedded server listen where it is `wanted` to, from now on; None for nowhere. It is started anew.

    Raises:
        GranaryError: the address cannot be had, TLS is wanted and the server was built without it, the certificate
            is none, or somebody is at work on the server. Nothing is changed then.
    """
    if settings.external:
        raise GranaryError(
            "the warehouse is an external Postgres: where it listens is its own affair", settings.host, "unset PGHOST"
        )
    with server.locked_home(settings.home):
        before = listen.load(settings.home)
        if wanted == before:
            return
        up_now = server.running(settings)
        if wanted and not (up_now and before and before.port == wanted.port):
            listen.refuse_taken(wanted.host, wanted.port)
        if wanted and wanted.tls:
            certificate.ready(settings.home, wanted)
        if up_now:
            refuse_busy(settings)
            layout = plan(settings.home)
            layout.command("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(layout.data))
        listen.save(settings.home, wanted)
    try:
        server.up(settings)
    except GranaryError:
        listen.save(settings.home, before)
        if up_now:
            server.up(settings)
        raise


def has_tls() -> bool:
    """Return whether the server that would be taken where TLS is wanted was built with it.

    Raises:
        GranaryError: its programs do not run on this machine.
    """
    binaries = find_binaries(tls=True)
    output_of(binaries, "postgres", "--version")
    return "openssl" in output_of(binaries, "pg_config", "--configure")


def refuse_busy(settings: Settings) -> None:
    """Refuse to stop a server on which somebody is at work.

    Raises:
        GranaryError: with how many there are.
    """
    sql = (
        "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
        " and state <> 'idle'"
    )
    with connect(settings, "postgres") as connection:
        ((busy,),) = query(connection, sql)
    if busy:
        raise GranaryError(
            f"the server has to be started anew, and {busy} session{' is' if busy == 1 else 's are'} at work",
            settings.host,
            "wait for them (`granary psql -c 'table pg_stat_activity'`), or stop it first: `granary down`",
        )
