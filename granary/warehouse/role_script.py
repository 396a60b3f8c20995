"""The rights that a warehouse needs on a server of somebody else's, as SQL for who administers it.

What it makes is all that is needed: a login that owns two databases and is a member of the warehouse's roles. The login
is no superuser and makes neither databases nor roles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.warehouse.connection import quote_name
from granary.warehouse.errors import UsageError, unknown
from granary.warehouse.role_names import NAMES, checked, named

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings


@dataclass(frozen=True)
class Platform:
    """A kind of server: who runs the script there, and what this one may that not everybody who runs it may."""

    title: str
    administrator: str
    is_superuser: bool = False


PLATFORMS = {
    "plain": Platform("Postgres", "a superuser", is_superuser=True),
    "rds": Platform("Amazon RDS or Aurora", "the master user (a member of rds_superuser)"),
    "cloudsql": Platform("Google Cloud SQL", "postgres, or another member of cloudsqlsuperuser"),
    "azure": Platform("Azure Database for PostgreSQL", "the server's administrator (a member of azure_pg_admin)"),
}

TEXT = """\
-- {title}, 14 or newer: what a warehouse needs. Run it with psql, once, in any database, as
-- {administrator}; then give the login its password, with \\password
\\set ON_ERROR_STOP on

-- The login of PGUSER: it may log in and own what is below, and nothing else.
create role {login} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;

{roles}

-- Since Postgres 16 a membership says whether its rights are inherited and whether the role may be set.
select current_setting('server_version_num')::int >= 160000 as has_options \\gset
\\if :has_options
grant {names} to {login} with admin true, inherit true, set true;
\\else
grant {names} to {login} with admin option;
\\endif
{members}

-- Databases are made for the login by a member of it only.
grant {login} to current_user;
create database {database} owner {login};
create database {dagster} owner {login};

-- Nobody enters whom the warehouse does not let in.
\\connect {database}
set role {login};
revoke all on database {database}, {dagster} from public;
reset role;
revoke create on schema public from public;
revoke {login} from current_user;
"""
TRIGGER = """
-- Optional, for superusers only: a loader makes no schema that dbt uses. Run this after the first `granary up`:
--   create event trigger {trigger} on ddl_command_end
--   when tag in ('CREATE SCHEMA', 'ALTER SCHEMA') execute function ops.guard_schemas();
-- Optional as well: whoever is forgotten is looked for in tables of people's own, too.
grant pg_read_all_data to {eraser};
"""


def script(settings: Settings, platform: str, prefix: str | None = None) -> str:
    """Return the SQL that makes the login, the roles and the databases of an external warehouse.

    Args:
        settings: names the login (`user`) and the databases.
        platform: one of `PLATFORMS`.
        prefix: how the names of the roles begin; by default with the database's name.

    Raises:
        UsageError: there is no such platform, or names are too long.
    """
    if platform not in PLATFORMS:
        raise unknown("kind of server", platform, PLATFORMS)
    kind = PLATFORMS[platform]
    start = checked(f"{settings.database}_" if prefix is None else prefix, "--prefix")
    if settings.user in {start + name for name in NAMES}:
        raise UsageError(f"{settings.user!r} is one of the roles", todo="set PGUSER to another login")
    names = {name: quote_name(start + name) for name in NAMES}
    places = {
        "title": kind.title,
        "administrator": kind.administrator,
        "login": quote_name(settings.user),
        "database": quote_name(settings.database),
        "dagster": quote_name(settings.dagster_database),
        "roles": "\n".join(f"create role {name} nologin;" for name in names.values()),
        "names": ", ".join(names.values()),
        "members": named(
            "grant {analyst} to {analyst_pii};\ngrant {transformer} to {view_keeper};\n"
            "grant {loader}, {transformer} to {eraser};",
            start,
        ),
        "eraser": names["eraser"],
        "trigger": "granary_schemas",
    }
    return (TEXT + (TRIGGER if kind.is_superuser else "")).format_map(places)
