"""Postgres' shell on the warehouse: the machine's own psql for an external server, else the one that is shipped."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from granary.warehouse.errors import GranaryError
from granary.warehouse.layout import find_binaries

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings

WITH_TLS = ("require", "verify-ca", "verify-full")
"""What PGSSLMODE says where a connection without TLS is none."""


def psql(settings: Settings, *arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Run psql on the warehouse with these arguments; it takes over the terminal unless captured.

    The login goes through the environment: a command line can be read by everybody on the machine.

    Raises:
        GranaryError: the server wants TLS, and there is only the shipped psql, which has none.
    """
    where = {"PGHOST": settings.host, "PGPORT": str(settings.port), "PGUSER": settings.user}
    return subprocess.run(
        [str(find_psql(settings)), "--no-psqlrc", *arguments],
        env=settings.environment() | where,
        text=True,
        capture_output=capture,
        check=False,
    )


def find_psql(settings: Settings) -> str | Path:
    """Return the psql to use.

    Raises:
        GranaryError: the server wants TLS, and there is only the shipped psql, which has none.
    """
    installed = shutil.which("psql") if settings.external else None
    mode = dict(settings.libpq).get("sslmode", "")
    if not installed and mode in WITH_TLS:
        raise GranaryError(
            f"PGSSLMODE is {mode}, and the psql that comes with Granary has no TLS",
            f"{settings.host}; there is no other psql on PATH",
            "install Postgres' client (on Debian: postgresql-client)",
        )
    return installed or find_binaries() / "bin" / "psql"
