"""What went wrong in a dbt run, for people: which node, where it is written, what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from granary.dbt.run_events import Problem
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from pathlib import Path

FAILED = frozenset({"error", "fail", "runtime error", "partial success"})
SURE_TO_FAIL_AGAIN = ("Compilation Error", "Parsing Error")
"""How dbt's message starts when trying again cannot help. An audit that stops a model is a Compilation Error too."""

HELD = "nothing was published"
"""How the message of a publish begins that something holds (runs.sql)."""
KEY_TESTS = ("unique", "unique_combination_of_columns")
"""Generic tests of which a failure in staging means that a key came again."""

FindCause = Callable[[Mapping[str, Any], str], str | None]

LINE = re.compile(r"^[\d:.]+ \[(\w+) *\] \[.{10}\]: ", re.MULTILINE)
"""How dbt begins what it writes into its log, with the level."""


def problems_of(
    target: Path, manifest: Mapping[str, Any], find_cause: FindCause = lambda *_: None
) -> tuple[list[Problem], bool]:
    """Return the problems of the run that left its artifacts in `target`, and whether trying again may help.

    `find_cause` says for a model that failed, and dbt's message, which load and row it failed on, if it can.

    It may if dbt itself died, or if a node failed on the database (a lost connection, a lock, a full disk); it cannot
    if only tests failed or the project is at fault. A publish is not tried again, as `dbt retry` repeats no hook.
    """
    path = target / "run_results.json"
    results = json.loads(path.read_bytes())["results"] if path.exists() else []
    failed = [result for result in results if result["status"] in FAILED]
    if not failed:
        return [
            Problem(f"dbt stopped: {last_error(target)}", str(target / "dbt.log"), "read its log and run again")
        ], True
    nodes = [manifest["nodes"].get(result["unique_id"], {}) for result in failed]
    transient = any(
        node.get("resource_type") not in ("test", "operation")
        and not str(result["message"] or "").startswith(SURE_TO_FAIL_AGAIN)
        for node, result in zip(nodes, failed, strict=True)
    )
    return [
        problem_of(node, result, find_cause, raw_table=_table_with_key(node, manifest))
        for node, result in zip(nodes, failed, strict=True)
    ], transient


def _table_with_key(node: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Return the source table whose rows a test of a key tests, as `source.table`; "" for any other node."""
    if (node.get("test_metadata") or {}).get("name") not in KEY_TESTS:
        return ""
    model = manifest["nodes"].get(node.get("attached_node"), {})
    names = {str(name) for name in model.get("depends_on", {}).get("nodes", ()) if str(name).startswith("source.")}
    return ".".join(names.pop().split(".")[-2:]) if len(names) == 1 else ""


def problem_of(
    node: Mapping[str, Any],
    result: Mapping[str, Any],
    find_cause: FindCause = lambda *_: None,
    *,
    raw_table: str = "",
) -> Problem:
    """Return the problem of one node; `raw_table` is the table whose rows have the key that a failed test tests."""
    name = str(node.get("name") or result["unique_id"])
    where = str(node.get("original_file_path") or result["unique_id"])
    message = " ".join(str(result["message"] or result["status"]).split())
    if node.get("resource_type") == "test":
        about = str(node.get("attached_node") or "").split(".")[-1] or "the data"
        count = result.get("failures")
        rows = f"found {plural(count, 'row')}" if count else f"failed: {message}"
        corrected = (
            f' (or, where later files correct earlier ones, have {raw_table} merged by its key: disposition="merge",'
            " `granary guide sources/files`)"
            if raw_table
            else ""
        )
        return Problem(
            f"test {name} on {about} {rows}",
            where,
            f"see them with `dbt show --select {name}`, fix the source{corrected}, run again",
        )
    kind = str(node.get("resource_type") or "node")
    if kind == "operation":
        words = message.partition("error: ")[2].partition(" CONTEXT: ")[0] or message
        held = words.partition(HELD)
        if held[1]:
            return Problem(f"{held[1]}{held[2]}", where, "`granary status` says what holds")
        return Problem(f"publishing failed: {words}", where, "readers keep what they had; fix it and run again")
    cause = find_cause(node, str(result["message"] or ""))
    return Problem(
        f"{kind} {name} failed: {message}{f'; made from {cause}' if cause else ''}",
        where,
        f"readers keep the last good marts; fix it and `dbt build --select {name}+`",
    )


def last_error(target: Path) -> str:
    """Return the last error in dbt's own log, or how to find out."""
    log = target / "dbt.log"
    _, *said = LINE.split(log.read_text(errors="replace")) if log.exists() else [""]
    errors = [words for level, words in zip(said[::2], said[1::2], strict=True) if level == "error"]
    return " ".join(errors[-1].split())[:600] if errors else "it left no results and no error"
