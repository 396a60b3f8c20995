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
    kernel who is calling (peer authentication). For an external server the values are those that libpq finds: in the
    PG* variables, and in the service that PGSERVICE names. `host` may be several, separated by commas.
    """

    home: Path
    external: bool
    host: str
    port: int = 5432
    user: str = OWNER
    password: str | None = field(default=None, repr=False)
    database: str = OWNER
    libpq: tuple[tuple[str, str], ...] = ()
    """Further keywords of libpq with their values, such as sslmode and sslrootcert."""

    @classmethod
    def load(cls) -> Settings:
        """Read the environment.

        Raises:
            GranaryError: the home folder's path is too long for a socket, the server in it is another user's, or what
                is said of an external one is not clear.
        """
        env = os.environ
        home = home_folder()
        run = str(home / "run")
        if env.get("PGHOST", run) == run and not env.get("PGSERVICE"):
            refuse_foreign(home)
            if len(os.fsencode(f"{run}/.s.PGSQL.5432")) > SOCKET_PATH_LIMIT:
                raise GranaryError(
                    f"the path of the server's socket is longer than {SOCKET_PATH_LIMIT} bytes",
                    run,
                    "set GRANARY_HOME to a shorter folder",
                )
            return cls(home=home, external=False, host=run, database=env.get("PGDATABASE") or OWNER)
        from granary.warehouse import libpq  # noqa: PLC0415 - 0.1 s, which the embedded server needs not

        found = libpq.find()
        return cls(
            home=home,
            external=True,
            host=found.host,
            port=found.port,
            user=found.user or OWNER,
            password=found.password,
            database=found.database or OWNER,
            libpq=found.more,
        )

    def at(self, database: str) -> Settings:
        """Return the same server with another database."""
        return replace(self, database=database)

    @property
    def dagster_database(self) -> str:
        """Name of the database that holds Dagster's runs and events."""
        return f"{self.database}_dagster"

    def parameters(
        self, database: str | None = None, role: str | None = None, *, application: str = "granary", options: str = ""
    ) -> dict[str, str]:
        """Return all that libpq needs for a connection but the password, keyword -> value, for whichever driver.

        The embedded server lets its owner in as each `role`; an external one knows only the login of PGUSER. `options`
        are put before those of the environment.
        """
        more = dict(self.libpq)
        more["options"] = f"{options} {more.get('options', '')}".strip()
        return {
            "host": self.host,
            "port": str(self.port),
            "user": self.user if self.external else role or self.user,
            "dbname": database or self.database,
            "application_name": application,
            **{keyword: value for keyword, value in more.items() if value},
        }

    def uri(self, database: str | None = None, role: str | None = None, **more: str) -> str:
        """Return a libpq connection URI; it holds the password, so it is never logged. See `parameters`."""
        query = self.parameters(database, role, **more)
        login, name = (quote(query.pop(part), safe="") for part in ("user", "dbname"))
        if self.password:
            login += ":" + quote(self.password, safe="")
        return f"postgresql://{login}@/{name}?{urlencode(query, quote_via=quote)}"

    def environment(self) -> dict[str, str]:
        """Return the whole environment for a child process that works on this warehouse (dbt, Dagster)."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        env["GRANARY_HOME"] = str(self.home)
        env["PGDATABASE"] = self.database
        if self.external:
            from granary.warehouse import libpq  # noqa: PLC0415 - as above

            env |= {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user} | libpq.variables(self.libpq)
            if self.password:
                env["PGPASSWORD"] = self.password
        return env


def spell_out_service() -> None:
    """Have the PG* variables of this process say what PGSERVICE means: dbt's profile reads only those.

    Raises:
        GranaryError: as `Settings.load`.
    """
    if os.environ.get("PGSERVICE"):
        environment = Settings.load().environment()
        os.environ.clear()
        os.environ.update(environment)
