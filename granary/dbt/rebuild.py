"""Rebuild everything that follows from a source's raw tables: the kappa way of starting over.

Raw keeps every event as it came. A full refresh of the models behind it, in the order of their dependencies, gives what
the increments gave, whatever the channels and the order in which the events came. Snapshots are left alone: they are
the only history of systems that forget, and cannot be made again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.dbt import manifest as dbt_manifest
from granary.dbt.runner import BUILD, BuildError, Runner
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from granary.dbt.run_events import Problem
    from granary.warehouse.settings import Settings

TARGET = "replay"


@dataclass(frozen=True)
class Replayed:
    """What a replay did: the relations that were built anew, how many tests passed, and what failed."""

    success: bool
    relations: tuple[str, ...]
    tests_passed: int
    seconds: float
    failures: tuple[Problem, ...]


def replay(
    settings: Settings,
    source: str,
    table: str | None = None,
    *,
    helped: Callable[[list[Problem]], bool] = lambda _: False,
) -> Replayed:
    """Rebuild and test all models downstream of a source, or of one of its tables, from raw.

    What failed, and what follows from it, is tried again for as long as `helped` says that this may go well now.

    Raises:
        GranaryError: dbt cannot parse the project, or no model reads the source.
    """
    began = time.monotonic()
    manifest = dbt_manifest.load(dbt_manifest.prepare(settings))
    wanted = f"{source}.{table}" if table else source
    if not any(_reads(node, source, table) for node in manifest["sources"].values()):
        raise GranaryError(
            f"dbt knows no source {wanted}", "models/staging", "describe it there, then its models can be rebuilt"
        )
    runner = Runner(settings, manifest, dbt_manifest.folder(settings) / TARGET)
    arguments: Sequence[str] = [*BUILD, "snapshot", "--full-refresh", "--select", f"source:{wanted}+"]
    results: dict[str, Any] = {}
    while True:
        failures: list[Problem] = []
        try:
            runner.run(arguments)
        except BuildError as error:
            failures = error.problems
        found = runner.results()
        if failures and not found:
            raise GranaryError("dbt could not start", str(runner.target / "dbt.log"), "read its log")
        results |= {result["unique_id"]: result for result in found}
        if not (failures and helped(failures)):
            break
        arguments = ["retry"]
    nodes = [(manifest["nodes"].get(unique_id, {}), result) for unique_id, result in results.items()]
    return Replayed(
        success=not failures,
        relations=tuple(
            node["name"] for node, r in nodes if node.get("resource_type") == "model" and r["status"] == "success"
        ),
        tests_passed=sum(node.get("resource_type") == "test" and r["status"] == "pass" for node, r in nodes),
        seconds=time.monotonic() - began,
        failures=tuple(failures),
    )


def _reads(node: Mapping[str, Any], source: str, table: str | None) -> bool:
    return node["source_name"] == source and table in (None, node["name"])
