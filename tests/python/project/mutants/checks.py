"""The project's tests as statements, so that they can be asked of a warehouse that is thrown away afterwards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import Error

from granary.warehouse.connection import query
from tests.python.project.mutants.edits import edited

if TYPE_CHECKING:
    from collections.abc import Iterable

    from granary.warehouse.connection import Connection
    from tests.python.project.histories.recorded import Builds
    from tests.python.project.mutants.edits import Edit

SIDE = "actual_or_expected"
"""The column by which dbt tells what a unit test expects from what there is."""
COMMENT = re.compile(r"^\s*/\*.*?\*/\s*", re.DOTALL)


@dataclass(frozen=True)
class Check:
    """A data test: its query returns the rows that fail, of these nodes."""

    name: str
    sql: str
    nodes: frozenset[str]

    def fails(self, connection: Connection) -> bool:
        """Return whether it finds a row, or cannot be asked at all."""
        try:
            with connection.transaction():
                return bool(query(connection, f"select 1 from (\n{self.sql}\n) as found limit 1"))
        except Error:
            return True


@dataclass(frozen=True)
class UnitTest:
    """A unit test of a model: its query returns what is expected beside what there is."""

    name: str
    sql: str

    def fails(self, connection: Connection, edit: Edit) -> bool:
        """Return whether it fails with an edit of the model; where it has no such place, it does not."""
        try:
            sql = edited(self.sql, edit)
            with connection.transaction(force_rollback=True):
                return sql is not None and not self._holds(connection, sql)
        except Error:
            return True

    def _holds(self, connection: Connection, sql: str) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(sql.encode())
            names = [column.name for column in cursor.description or ()]
            rows = cursor.fetchall()
        side = names.index(SIDE)
        sides: dict[str, list[str]] = {"actual": [], "expected": []}
        for row in rows:
            sides[row[side]].append(str([value for n, value in enumerate(row) if n != side]))
        return sorted(sides["actual"]) == sorted(sides["expected"])


def data_tests(builds: Builds) -> list[Check]:
    """Return the data tests of models and snapshots, each about all of history."""
    compiled = builds.run("compile", "--select", "test_type:data")
    return [
        Check(node.name, node.compiled_code, frozenset(node.depends_on.nodes))
        for node in (one.node for one in compiled)
        if node.resource_type == "test"
    ]


def unit_tests(builds: Builds) -> dict[str, list[UnitTest]]:
    """Return the unit tests by model."""
    sent: dict[str, str] = {}

    def note(event: Any) -> None:
        if event.info.name == "SQLQuery" and SIDE in event.data.sql:
            sent[event.data.node_info.unique_id] = COMMENT.sub("", event.data.sql)

    builds.run("test", "--select", "test_type:unit", callback=note)
    found: dict[str, list[UnitTest]] = {}
    for name, sql in sent.items():
        node = builds.manifest.unit_tests[name]
        found.setdefault(node.depends_on.nodes[0], []).append(UnitTest(node.name, sql))
    return found


def failing(checks: Iterable[Check], connection: Connection) -> tuple[str, ...]:
    """Return the names of the tests that fail."""
    return tuple(check.name for check in checks if check.fails(connection))
