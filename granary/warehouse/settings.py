"""Where the warehouse is: the embedded server by default, any Postgres through the standard PG* variables."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, urlencode

from granary.warehouse.errors import GranaryError
from granary.warehouse.home import refuse_foreign
from granary.warehouse.project import PROJECT

OWNER = "granary"
"""Superuser and database of the embedded server."""

LOGINS = ("loader", "transformer", "analyst", "analyst_pii", "auditor", "monitor", "eraser")
"""Roles as which the embedded server lets its owner in; see migrations/rights.sql for what each may do."""

PORT = 5432
"""Port in the name of the embedded server's socket."""

SOCKET_PATH_LIMIT = 103
"""Bytes in a Unix socket's path that both Linux (107) and macOS (103) accept."""


def home_folder() -> Path:
    """Return the warehouse's home: GRANARY_HOME, in which `~` and relative folders are understood, or .granary here."""
    return Path(os.environ.get("GRANARY_HOME") or PROJECT / ".granary").expanduser().absolute()


@dataclass(frozen=True)
class Settings:
    """One warehouse: its home folder and how to reach its server.

    For the embedded server `host` is the folder of its Unix socket and there is no password: the server asks the
    kernel who is calling (peer authentication). For an external server the values are those of the PG* variables.
    """

    home: Path
    external: bool
    host: str
    port: int = 5432
    user: str = OWNER
    password: str | None = field(default=None, repr=False)
    database: str = OWNER
    sslmode: str | None = None

    @classmethod
    def load(cls) -> Settings:
        """Read the environment.

        Raises:
            GranaryError: the home folder's path is too long for a socket, the server in it is another user's, or PGPORT
                is not a number.
        """
        env = os.environ
        home = home_folder()
        run = str(home / "run")
        if env.get("PGHOST", run) == run:
            refuse_foreign(home)
            if len(os.fsencode(f"{run}/.s.PGSQL.5432")) > SOCKET_PATH_LIMIT:
                raise GranaryError(
                    f"the path of the server's socket is longer than {SOCKET_PATH_LIMIT} bytes",
                    run,
                    "set GRANARY_HOME to a shorter folder",
                )
            return cls(home=home, external=False, host=run, database=env.get("PGDATABASE") or OWNER)
        try:
            port = int(env.get("PGPORT") or 5432)
        except ValueError:
            raise GranaryError("PGPORT is not a number", env["PGPORT"], "set it to the server's port") from None
        return cls(
            home=home,
            external=True,
            host=env["PGHOST"],
            port=port,
            user=env.get("PGUSER") or OWNER,
            password=env.get("PGPASSWORD"),
            database=env.get("PGDATABASE") or OWNER,
            sslmode=env.get("PGSSLMODE"),
        )

    def at(self, database: str) -> Settings:
        """Return the same server with another database."""
        return replace(self, database=database)

    @property
    def dagster_database(self) -> str:
        """Name of the database that holds Dagster's runs and events."""
        return f"{self.database}_dagster"

    def uri(self, database: str | None = None, role: str | None = None) -> str:
        """Return a libpq connection URI; it holds the password, so it is never logged.

        The embedded server lets its owner in as each `role`; an external one knows only the login of PGUSER.
        """
        login = quote(self.user if self.external else role or self.user, safe="")
        if self.password:
            login += ":" + quote(self.password, safe="")
        query = {"host": self.host, "port": str(self.port), "application_name": "granary"}
        if self.sslmode:
            query["sslmode"] = self.sslmode
        return f"postgresql://{login}@/{quote(database or self.database, safe='')}?{urlencode(query)}"

    def environment(self) -> dict[str, str]:
        """Return the whole environment for a child process that works on this warehouse (dbt, Dagster)."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        env["GRANARY_HOME"] = str(self.home)
        env["PGDATABASE"] = self.database
        if self.external:
            env |= {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user}
            optional = {"PGPASSWORD": self.password, "PGSSLMODE": self.sslmode}
            env |= {name: value for name, value in optional.items() if value}
        return env
