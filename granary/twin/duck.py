"""DuckDB with the twin's catalogues attached: as a role of the warehouse, which is what its rights are."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings

EXTENSIONS = ("postgres_scanner", "ducklake")
OFFLINE = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
SAYS = ("Binder", "Catalog", "Parser", "Not implemented")
"""Errors whose words are about a query and hold no value of a row."""


def is_installed() -> bool:
    """Return whether the packages that the twin takes are here."""
    return all(find_spec(name) for name in ("duckdb", *(f"duckdb_extension_{one}" for one in EXTENSIONS)))


@contextmanager
def session(settings: Settings, folder: Path | None = None, memory: str | None = None) -> Iterator[Any]:
    """Yield a connection of DuckDB that has the extensions, and nothing attached; errors of its own are told plainly.

    Args:
        settings: the warehouse.
        folder: where it may put what does not fit into memory.
        memory: how much it may take, such as `1GB`; else most of the machine's.

    Raises:
        GranaryError: the extra is not installed, or DuckDB refuses something.
    """
    if not is_installed():
        raise GranaryError("the twin's packages are not installed", "", "pip install 'granary-elt[lake]'")
    import duckdb  # noqa: PLC0415 - of the extra

    if settings.password:
        os.environ.setdefault("PGPASSWORD", settings.password)  # not in a text that an error may show
    config: dict[str, str | bool | int | float | list[str]] = dict(OFFLINE)
    if folder:
        config["temp_directory"] = str(folder)
    if memory:
        config["memory_limit"] = memory
    connection = duckdb.connect(config=config)
    try:
        for name in EXTENSIONS:
            connection.execute(f"load {text(str(_file(name)))}")
        connection.execute("set TimeZone = 'UTC'")
        yield connection
    except duckdb.Error as error:
        raise GranaryError(f"the twin cannot do it: {reason(error)}", "", "see `granary guide twin`") from None
    finally:
        connection.close()


def reason(error: Exception) -> str:
    """Return what DuckDB says of a failure, without values of rows."""
    words = " ".join(str(error).split("\n\n")[0].split())
    return words[:300] if words.startswith(SAYS) else f"{type(error).__name__}"


def attach_twin(connection: Any, settings: Settings, role: str, catalog: str, alias: str, **options: object) -> None:
    """Attach a catalogue of the twin.

    Args:
        connection: of DuckDB.
        settings: the warehouse.
        role: as which its catalogue is read or written.
        catalog: the schema that it is in.
        alias: what it is called.
        options: of DuckLake's ATTACH, such as `data_path`; True is one without a value.
    """
    given = {"metadata_schema": catalog, **options}
    said = ", ".join(
        name if value is True else f"{name} {text(value) if isinstance(value, str) else value}"
        for name, value in given.items()
    )
    connection.execute(f"attach {text('ducklake:postgres:' + _dsn(settings, role))} as {alias} ({said})")


def attach_warehouse(connection: Any, settings: Settings, role: str, alias: str, *, read_only: bool = True) -> None:
    """Attach the warehouse to read from, or to write to, as a role."""
    mode = ", read_only" if read_only else ""
    connection.execute(f"attach {text(_dsn(settings, role))} as {alias} (type postgres{mode})")


def asked(alias: str, sql: str) -> str:
    """Return a table function of DuckDB for what Postgres answers to a query."""
    return f"postgres_query({text(alias)}, {text(sql)})"


def text(value: str) -> str:
    """Return a text as SQL."""
    return "'" + value.replace("'", "''") + "'"


def _dsn(settings: Settings, role: str) -> str:
    options = "-c lock_timeout=60s"
    if settings.external:
        with connect(settings) as connection:
            name = str(query(connection, "select ops.role_name($1)", role)[0][0])
        options += f" -c role={name}"
    given = settings.parameters(role=role, application="granary twin", options=options)
    return " ".join(
        "{}='{}'".format(name, value.replace("\\", "\\\\").replace("'", "\\'")) for name, value in given.items()
    )


def _file(name: str) -> Path:
    """Return an extension's file, of the version of DuckDB that is here.

    Raises:
        GranaryError: it is for another version.
    """
    import duckdb  # noqa: PLC0415 - of the extra

    package = import_module(f"duckdb_extension_{name}")
    found = Path(str(package.__file__)).parent / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if not found.exists():
        what = f"DuckDB is {duckdb.__version__}, and its extension {name} is for another version"
        raise GranaryError(what, str(found), "pip install 'granary-elt[lake]' brings versions that belong together")
    return found
