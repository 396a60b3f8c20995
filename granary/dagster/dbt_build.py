"""One dbt process inside a Dagster step: starts it, turns what it says into events, ends it, explains its failure.

`DbtCliResource.cli()` is the usual way; here its parts are used directly, because it runs `dbt --version` and makes a
dbt adapter in our own process before each command (3.5 s measured), and because its `fetch_row_counts()` and
`fetch_column_metadata()`, which need that adapter, made a build of nothing new take 34 s instead of 16 (see `lineage`).
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import closing
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import dagster as dg
from packaging.version import Version

from granary.dagster import step_plot
from granary.dagster.dagster_dbt_alone import DbtCliInvocation
from granary.dbt import ahead
from granary.dbt import manifest as dbt_manifest
from granary.dbt.catalog import Catalog
from granary.dbt.failing_rows import cause_of_failure
from granary.dbt.failures import SURE_TO_FAIL_AGAIN
from granary.dbt.known_lineage import KnownLineage
from granary.dbt.manifest_nodes import layer, materialization, relation
from granary.dbt.run_events import Event, Kind, Severity, emit
from granary.dbt.runner import BUILD, Runner
from granary.dbt.step_times import RESULTS, of_event, rows_written
from granary.warehouse import run_ledger
from granary.warehouse.connection import connect

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from dagster_dbt import DbtCliEventMessage

    from granary.dagster.translator import Translator
    from granary.warehouse.settings import Settings

RETRIES, RETRY_SECONDS = 1, 3
KEPT_RUNS = 10
SHOWN_TEST_SECONDS = 1.0
"""Tests that take longer are shown among the models in the run's plot."""
STARTS = frozenset({"LogStartLine"})
COLUMNS_FROM = "columns are made from"


class Build:
    """One attempt at the dbt step of one run. The second attempt runs `dbt retry` on what the first left behind."""

    def __init__(
        self,
        settings: Settings,
        manifest: Mapping[str, Any],
        translator: Translator,
        context: dg.AssetExecutionContext,
    ) -> None:
        """Prepare; nothing runs yet."""
        self._settings, self._manifest = settings, manifest
        self._translator, self._context = translator, context
        self._target = dbt_manifest.folder(settings) / "runs" / context.run.run_id
        self._runner = Runner(settings, manifest, self._target)
        self._lineages = KnownLineage(settings)
        self._full_refresh = False
        self._new: set[str] = set()
        self._ledger = True
        self._spans: list[step_plot.Span] = []

    def run(self, arguments: list[str], build: str | None = None) -> Generator[Any, None, None]:
        """Run dbt and yield its results as Dagster's events, each relation with its rows, columns and lineage.

        That a table is built is kept at once, as part of this `build` (see `granary.dbt.unfinished`); dbt itself keeps
        what all nodes took when it ends.

        Raises:
            BuildError: dbt reported failures.
        """
        retrying = self._context.retry_number > 0 and bool(self._runner.results())
        command = ["retry"] if retrying else [*BUILD, *arguments]
        self._full_refresh = "--full-refresh" in command
        self._clear()
        asking = closing(connect(self._settings, role="transformer", autocommit=True))
        with asking as connection, self._runner.running(command, self._start, self._cause_of_failure) as invocation:
            catalog = Catalog(connection)
            for event in invocation.stream_raw_events():
                built = list(of_event(event.raw_event, self._manifest, build, is_full=self._full_refresh))
                if built and self._ledger:  # once that has failed no more, or each table would wait for the ledger
                    self._ledger = run_ledger.keep_steps(connection, built)
                yield from self._translate(event, catalog)
            self._lineages.keep()
            step_plot.report(self._context, self._spans)

    def _cause_of_failure(self, node: Mapping[str, Any], message: str) -> str | None:
        """Return the load and row that a model failed on; not before it is sure to fail again."""
        last = self._context.retry_number >= RETRIES or message.startswith(SURE_TO_FAIL_AGAIN)
        return cause_of_failure(self._settings, self._manifest, node, self._target, message) if last else None

    def _clear(self) -> None:
        """Throw the oldest runs' folders away."""
        self._target.mkdir(parents=True, exist_ok=True)
        runs = sorted(self._target.parent.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in runs[:-KEPT_RUNS]:
            shutil.rmtree(old, ignore_errors=True)

    def _start(self, command: list[str], environment: dict[str, str]) -> DbtCliInvocation:
        run = self._context.run
        environment = environment | run_ledger.environment(run.run_id, run.tags)
        process = ahead.take(command, environment) or subprocess.Popen(
            command,
            cwd=dbt_manifest.PROJECT_DIR,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._context.log.info(f"Running dbt command: `{' '.join(command)}`.")
        return DbtCliInvocation(
            process=process,
            manifest=self._manifest,
            dagster_dbt_translator=self._translator,
            project_dir=dbt_manifest.PROJECT_DIR,
            target_path=self._target,
            raise_on_error=False,
            context=self._context,
            adapter=None,
            cli_version=Version(version("dbt-core")),
        )

    def _translate(self, event: DbtCliEventMessage, catalog: Catalog) -> Iterator[Any]:
        """Yield Dagster's events for one line of dbt's, and tell the listener."""
        name = event.raw_event["info"]["name"]
        if name == "AdapterEventWarning":  # such as a wait for a lock, and who has it (dbt_granary.py)
            emit(Event("waiting", "dbt", "dbt", detail=str(event.raw_event["info"]["msg"])))
            return
        node = self._manifest["nodes"].get(event.raw_event["data"].get("node_info", {}).get("unique_id"))
        if node is None or name not in STARTS | RESULTS:
            return
        if name in STARTS:
            if node["resource_type"] != "test":
                emit(Event("started", "dbt", node["name"], group=layer(node)))
            if materialization(node) == "incremental" and not catalog.columns(relation(node), again=True):
                self._new.add(node["unique_id"])
            return
        extra = self._describe(node, event, catalog) if node["resource_type"] != "test" else {}
        emit(self._outcome(node, event, extra.get("dagster/row_count")))
        for result in event.to_default_asset_events(self._manifest, self._translator, self._context, self._target):
            if isinstance(result, dg.Output):
                yield result.with_metadata({**result.metadata, **extra})
            else:
                yield result

    def _describe(self, node: Mapping[str, Any], event: DbtCliEventMessage, catalog: Catalog) -> dict[str, Any]:
        """Return the rows, columns and column lineage of a relation that was just built."""
        if not succeeded(event):
            return {}
        columns = catalog.columns(relation(node), again=True)
        described = {name.lower(): str(column.get("description") or "") for name, column in node["columns"].items()}
        metadata: dict[str, Any] = {
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(name, kind, described.get(name)) for name, kind in columns.items()]
            )
        }
        if materialization(node) != "view":
            metadata["dagster/row_count"] = self._rows(node, event, catalog)
        if lineage := self._lineage(node, catalog):
            metadata |= {"dagster/column_lineage": lineage, COLUMNS_FROM: columns_from(lineage)}
        return metadata

    def _rows(self, node: Mapping[str, Any], event: DbtCliEventMessage, catalog: Catalog) -> int:
        """Return the rows of a relation: as dbt reports them if it wrote all of them just now, else counted.

        The first count of 21 million rows that were just written takes 4 to 9 s, later ones 1 s.
        """
        whole = materialization(node) == "table" or self._full_refresh or node["unique_id"] in self._new
        written = rows_written(str(event.raw_event["data"].get("status", ""))) if whole else None
        return catalog.rows(relation(node)) if written is None else written

    def _lineage(self, node: Mapping[str, Any], catalog: Catalog) -> dg.TableColumnLineage | None:
        """Return the column lineage; a model's out of the compiled SQL that dbt left."""
        path = self._target / "compiled" / node["package_name"] / node["original_file_path"]
        if node["resource_type"] not in ("model", "snapshot"):
            return None
        nodes, sources = self._manifest["nodes"], self._manifest["sources"]
        parents = [nodes.get(parent) or sources[parent] for parent in node["depends_on"]["nodes"]]
        keys = {relation(parent): self._translator.get_asset_key(parent) for parent in parents}
        sql = path.read_text() if path.is_file() else ""
        found = self._lineages.of(node, sql, {name: catalog.columns(name) for name in keys})
        return dg.TableColumnLineage(
            {
                column: [dg.TableColumnDep(keys[name], parent) for name, parent in origins]
                for column, origins in found.items()
            }
        )

    def _outcome(self, node: Mapping[str, Any], event: DbtCliEventMessage, rows: int | None) -> Event:
        """Return the event of a finished node."""
        data = event.raw_event["data"]
        status, seconds = str(data["node_info"]["node_status"]), float(data.get("execution_time") or 0)
        is_test = node["resource_type"] == "test"
        if not is_test or seconds >= SHOWN_TEST_SECONDS:
            span = step_plot.span(data["node_info"], node["name"], layer(self._about(node) if is_test else node))
            self._spans += [span] if span else []
        if not is_test:
            kind: Kind = "materialized" if succeeded(event) else "failed"
            return Event(kind, "dbt", node["name"], layer(node), rows, seconds, detail=str(data.get("status", "")))
        about = self._about(node)
        severity: Severity = "" if status == "pass" else "warn" if status == "warn" else "error"
        return Event(
            "checked",
            "dbt",
            node["name"],
            layer(about),
            seconds=seconds,
            passed=not severity,
            severity=severity,
            asset=str(about.get("name", "")),
        )

    def _about(self, test: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the node that a test is about: the one it is attached to, else the first that it reads."""
        about = test.get("attached_node") or next(iter(test["depends_on"]["nodes"]), "")
        found: Mapping[str, Any] = self._manifest["nodes"].get(about) or self._manifest["sources"].get(about) or test
        return found


def columns_from(lineage: dg.TableColumnLineage) -> dg.TableMetadataValue:
    """Return column lineage as a table: this UI keeps its own metadata of it, and shows it nowhere."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "column": column,
                    "made from": ", ".join(f"{one.asset_key.path[-1]}.{one.column_name}" for one in deps),
                }
            )
            for column, deps in lineage.deps_by_column.items()
        ],
        dg.TableSchema([dg.TableColumn("column"), dg.TableColumn("made from")]),
    )


def succeeded(event: DbtCliEventMessage) -> bool:
    """Return whether a node was built."""
    return str(event.raw_event["data"]["node_info"]["node_status"]) == "success"
