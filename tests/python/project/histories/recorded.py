"""dbt's builds, recorded once and sent again.

What dbt sends is the same each time, but for what an increment has to do; and it takes seconds to find that out again,
where the server takes a tenth of them. So dbt builds once for each answer that `ops.increment_state` can give, and what
it sends for each node is kept. A later build asks the server for the answer, as dbt does, and sends what dbt sent then:
hooks, audits, publishing and all.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dbt.cli.main import dbtRunner

from granary.warehouse.connection import connect, execute, query
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

Sent = dict[str, list[str]]
"""Node -> statements."""
FIRST, LAST = "1999-01-01", "1999-01-02"
"""What stands for the days of a window that is asked for."""
ANSWER = "create or replace function ops.increment_state(doc jsonb) returns text language sql as $$ select '{}' $$"
ASK = "select ops.increment_state("
TABLE = "create temporary table "
WRITE = re.compile(r"ops\.write_increment\('(.*)', '[^']*'\); end \$granary\$", re.DOTALL)
VIEW = re.compile(r'create view ("\w+"\."\w+"\."(\w+))__dbt_tmp"')
NOISE = re.compile(r"comment on|commit|begin|select\s+column_name|.*__dbt_sbq", re.IGNORECASE | re.DOTALL)
"""Comments, and dbt's looks at columns."""
BUILD = ("build", "--exclude-resource-type", "test", "unit_test", "seed")
END = "operation.granary.granary-on-run-end-0"


class AuditError(Exception):
    """A blocking test has failed."""


@dataclass
class Variant:
    """What dbt sends with one set of vars, by what an increment has to do."""

    sent: dict[str, Sent] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    """Model -> its select, as it is built anew."""
    invocations: dict[str, str] = field(default_factory=dict)


@dataclass
class Builds:
    """The builds of a warehouse in which every model has been built."""

    settings: Settings
    target: Path
    variants: dict[str, Variant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Parse the project."""
        self.manifest: Any = self._dbt(None, "parse").result

    def record(self, name: str, variables: Mapping[str, object] | None = None) -> None:
        """Have dbt build with these vars, in each way, and end with a full refresh."""
        variant = self.variants[name] = Variant()
        with connect(self.settings) as connection:
            rows = query(connection, "select pg_get_functiondef('ops.increment_state(jsonb)'::regprocedure)")
            real = str(rows[0][0])
            try:
                for way, state in (("some", "some"), ("asked", "some"), ("all", "all")):
                    execute(connection, ANSWER.format(state))
                    connection.commit()
                    window = {"from_date": FIRST, "to_date": LAST} if way == "asked" else {}
                    self._note(variant, way, dict(variables or {}) | window, *BUILD)
            finally:
                execute(connection, real)
                connection.commit()
        rebuilt = self._note(variant, "rebuild", variables or {}, "run", "--full-refresh")
        variant.code = {one.node.unique_id: one.node.compiled_code for one in rebuilt}

    def build(
        self,
        variant: str,
        *,
        nodes: Collection[str] | None = None,
        anew: Collection[str] = (),
        window: tuple[str, str] | None = None,
        erasing: bool = False,
    ) -> None:
        """Build all nodes, or some, of these a few anew; what is complete is published.

        Raises:
            AuditError: a blocking test has failed.
        """
        at_work = _Build(self.variants[variant], window)
        with connect(self.settings, role="transformer") as connection:
            for node in at_work.nodes:
                if nodes is None or node in nodes or at_work.is_view(node):
                    at_work.run(connection, node, "rebuild" if node in anew else None)
                    connection.commit()
            at_work.end(connection, erasing=erasing, publishes=nodes is None)

    def build_by_dbt(self, variables: Mapping[str, object]) -> None:
        """Have dbt itself build everything."""
        self._note(Variant(), "", variables, *BUILD)

    def rebuild(self, variant: str, connection: Connection, node: str, change: Callable[[str], str] | None) -> None:
        """Build one node anew, with a change of what is sent; the caller commits, or does not.

        Raises:
            AuditError: a blocking test has failed.
        """
        _Build(self.variants[variant], None).run(connection, node, "rebuild", change)

    @contextmanager
    def refreshed(self, variant: str) -> Iterator[Connection]:
        """Have everything built anew, in a transaction that is rolled back."""
        at_work = _Build(self.variants[variant], None)
        with connect(self.settings, role="transformer") as connection:
            for node in at_work.nodes:
                if node.startswith("model."):
                    at_work.run(connection, node, "rebuild")
            yield connection
            connection.rollback()

    def nodes(self, kind: str = "model") -> list[str]:
        """Return the nodes of a kind in the order of building."""
        return [name for name in next(iter(self.variants.values())).sent["some"] if name.startswith(f"{kind}.")]

    def _note(self, variant: Variant, way: str, variables: Mapping[str, object], *arguments: str) -> Any:
        sent = variant.sent[way] = {}

        def note(event: Any) -> None:
            if event.info.name == "SQLQuery" and (node := event.data.node_info.unique_id):
                sql = re.sub(r"^/\*.*?\*/\s*", "", event.data.sql, flags=re.DOTALL).strip()
                if not NOISE.match(sql):
                    sent.setdefault(node, []).append(sql)
                variant.invocations[way] = event.info.invocation_id

        return self.run(*arguments, "--vars", json.dumps(variables), callback=note)

    def run(self, *arguments: str, callback: Callable[[Any], None] | None = None) -> Any:
        """Run a command of dbt, which must succeed, and return its result."""
        self.manifest.build_flat_graph()  # what a build has settled for its nodes is kept there
        done = self._dbt(callback, *arguments)
        if not done.success:
            raise AssertionError(done.exception or [one.message for one in done.result if one.status == "error"])
        return done.result

    def _dbt(self, callback: Callable[[Any], None] | None, *arguments: str) -> Any:
        places = ("--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target-path", str(self.target))
        logs = ("--log-path", str(self.target), "--log-level", "none", "--log-level-file", "none", "--no-write-json")
        runner = dbtRunner(getattr(self, "manifest", None), callbacks=[callback] if callback else [])
        return runner.invoke([arguments[0], *places, *logs, "--threads", "2", *arguments[1:]])


class _Build:
    """One build at work."""

    def __init__(self, variant: Variant, window: tuple[str, str] | None) -> None:
        self._variant, self._window, self._invocation = variant, window, str(uuid4())
        self.nodes = [name for name in variant.sent["some"] if not name.startswith("operation.")]

    def is_view(self, node: str) -> bool:
        return bool(VIEW.match(self._variant.sent["some"][node][0]))

    def run(
        self, connection: Connection, node: str, state: str | None = None, change: Callable[[str], str] | None = None
    ) -> None:
        """Send what dbt sends for a node, with a change."""
        for sent in self._statements(connection, node, state):
            sql = change(sent) if change else sent
            rows = _send(connection, sql)
            if sql.startswith("select ops.audit(") and rows[0][0]:
                raise AuditError(f"{node}: {rows[0][0]}")

    def end(self, connection: Connection, *, erasing: bool, publishes: bool) -> None:
        """Send what dbt sends at the end of a run."""
        first = next(sql for sql in self._variant.sent["some"][END] if sql.startswith("select ops.end_run("))
        document = self._of_now(first.removeprefix("select ops.end_run").strip("() \n"), "some")
        if erasing:
            document = document.replace('"erasing": false', '"erasing": true')
        if not publishes:
            _send(connection, f"select ops.prune_deltas({document})")
            connection.commit()
            return
        _send(connection, f"select ops.end_run({document})")
        connection.commit()
        plan = _send(connection, f"select ops.prepare_publish({document})")[0][0]
        connection.commit()
        if plan.get("error"):
            raise AssertionError(plan["error"])
        for name in plan.get("changing", ()):
            _send(connection, f"select ops.make_columns_ready('{name}')")
            connection.commit()
        if "changing" in plan:
            _send(connection, "select ops.publish()")
        connection.commit()

    def _statements(self, connection: Connection, node: str, state: str | None) -> Sequence[str]:
        some = self._variant.sent["asked" if self._window else "some"][node]
        if self.is_view(node):
            return [VIEW.sub(r'create or replace view \1"', some[0])]
        asks = next((sql for sql in some if sql.startswith(ASK)), None)
        if state is None and asks:
            state = str(_send(connection, self._of_now(asks, "asked" if self._window else "some"))[0][0])
        if state in ("rebuild", "all"):
            return [self._of_now(sql, state) for sql in self._variant.sent[state][node]]
        way = "asked" if self._window else "some"
        if state == "none":
            ready = [sql for sql in some[: next(n for n, sql in enumerate(some) if WRITE.search(sql))] if sql != asks]
            before = [sql for sql in ready if TABLE not in sql]
            document = next(found[1] for sql in some if (found := WRITE.search(sql)))
            document = document.replace('"state": "some"}', '"state": "none"}')
            return [self._of_now(sql, way) for sql in (*before, f"select ops.write_increment('{document}', '')")]
        return [self._of_now(sql, way) for sql in some if sql != asks]

    def _of_now(self, sql: str, way: str) -> str:
        sql = sql.replace(self._variant.invocations[way], self._invocation)
        if self._window:
            sql = sql.replace(FIRST, self._window[0]).replace(LAST, self._window[1])
        return sql


def _send(connection: Connection, sql: str) -> list[tuple[Any, ...]]:
    """Send one or several statements, and return the rows of the last."""
    with connection.cursor() as cursor:
        cursor.execute(sql.encode())
        while cursor.nextset():
            pass
        return list(cursor.fetchall()) if cursor.description else []
