"""dbt as this project runs it: an error of the database is told without the values of rows.

dbt passes on what the server says, and the server explains a failed constraint with the row itself, a failed cast with
the value: on the terminal, in dbt.log, in run_results.json and in whatever reads these. dbt imports this module by
itself, as it does every installed one whose name begins with `dbt_` (dbt.plugins); the command `dbt` of the environment
starts here as well, since dbt finds no modules of an editable installation.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from granary.warehouse.database_errors import told

if TYPE_CHECKING:
    from collections.abc import Iterator

plugins: list[Any] = []
"""What dbt.plugins looks for: nothing of dbt's graph is changed."""


def keep_values_back() -> None:
    """Have dbt's adapter for Postgres pass on errors without values; done once a process."""
    import psycopg2  # type: ignore[import-untyped]  # noqa: PLC0415 - with dbt only
    from dbt.adapters.postgres.connections import PostgresConnectionManager as Manager  # noqa: PLC0415

    handler = Manager.exception_handler
    if getattr(handler, "keeps_values_back", False):
        return

    @contextmanager
    def exception_handler(self: Any, sql: str) -> Iterator[None]:
        with handler(self, sql):
            try:
                yield
            except psycopg2.Error as error:
                raise type(error)(told(error)) from None

    exception_handler.keeps_values_back = True  # type: ignore[attr-defined]
    Manager.exception_handler = exception_handler  # type: ignore[method-assign]


def main() -> None:
    """Run dbt, as the command of its own name does."""
    from dbt.cli.main import cli  # noqa: PLC0415

    keep_values_back()
    cli()


with suppress(ImportError):  # an environment without dbt: there is nothing to keep back
    keep_values_back()

if __name__ == "__main__":
    main()
