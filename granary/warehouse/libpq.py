"""What libpq would connect with: the PG* variables and the service file, as libpq itself reads them.

Granary's processes use four copies of libpq (psycopg, ADBC, dbt's and Dagster's psycopg2, psql). What one of them finds
here is said to all of them in so many words, so that they mean the same server and the same certificates.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from psycopg import pq

from granary.warehouse.errors import GranaryError

OWN = ("service", "host", "port", "user", "password", "dbname", "application_name", "fallback_application_name")
"""Keywords that Granary sets itself, or that settings have a field for."""


@dataclass(frozen=True)
class Parameters:
    """A server as libpq would find it; `more` are the keywords that differ from libpq's own, such as sslrootcert."""

    host: str
    port: int
    user: str | None
    password: str | None
    database: str | None
    more: tuple[tuple[str, str], ...]


def find() -> Parameters:
    """Read the environment, and what PGSERVICE names in PGSERVICEFILE, ~/.pg_service.conf or the system's.

    Raises:
        GranaryError: the service is in no file or names no host, the port is not a number, or hosts have several.
    """
    found = {_text(one.keyword): _text(one.val) for one in pq.Conninfo.get_defaults() if one.val}
    compiled = {_text(one.keyword): _text(one.compiled) for one in pq.Conninfo.get_defaults() if one.compiled}
    service = found.get("service")
    if "host" not in found:
        raise GranaryError(
            f"the service {service!r} of PGSERVICE names no host",
            os.environ.get("PGSERVICEFILE") or "~/.pg_service.conf",
            "write its section there with a host, or set PGHOST",
        )
    return Parameters(
        host=found["host"],
        port=_port(found.get("port") or "5432"),
        user=found["user"] if service or os.environ.get("PGUSER") else None,  # libpq's own is that of the system
        password=found.get("password"),
        database=found.get("dbname"),
        more=tuple((name, value) for name, value in found.items() if name not in OWN and value != compiled.get(name)),
    )


def variables(more: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Return the PG* variables that say the same as these keywords; some, such as keepalives, have none."""
    names = {_text(one.keyword): _text(one.envvar) for one in pq.Conninfo.get_defaults() if one.envvar}
    return {names[keyword]: value for keyword, value in more if keyword in names}


def _port(text: str) -> int:
    """Return the port of all hosts: dbt takes one."""
    ports = set(text.split(","))
    if len(ports) > 1:
        raise GranaryError("PGPORT has several ports", text, "give all hosts the same port: dbt knows one")
    try:
        return int(ports.pop())
    except ValueError:
        raise GranaryError("PGPORT is not a number", text, "set it to the server's port") from None


def _text(found: bytes | None) -> str:
    return (found or b"").decode()
