"""The command's log: one JSON object a line in .granary/logs/, for details that stderr does not carry."""

from __future__ import annotations

import json
import sys
import traceback
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import home_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAXIMUM_BYTES = 5_000_000


def failure(error: BaseException) -> Path:
    """Append a failure with its traceback and return the log's path; a log that cannot be written stops nothing.

    What a person can act on is no reason to begin a log where there is neither a warehouse nor a project.
    """
    path = home_folder() / "logs" / "granary.log"
    if isinstance(error, GranaryError) and not home_folder().exists() and not (PROJECT / "dbt_project.yml").exists():
        return path
    entry = {
        "command": _command(sys.argv[1:]),
        "error": str(error),
        "traceback": traceback.format_exception(error),
    }
    append(path, entry)
    return path


def report(error: Exception, place: str = "") -> None:
    """Say on standard error what went wrong, in one line, and put its details into the log; `place` is a table."""
    from granary.warehouse.environment_errors import plainly

    where = failure(error)
    if known := plainly(error):
        mine = place and place not in str(known)
        print(f"granary: {place + ': ' if mine else ''}{known}", file=sys.stderr)
    else:
        at = f"{place}: " if place else ""
        print(f"granary: {at}a defect in Granary: {type(error).__name__}: {error}; details in {where}", file=sys.stderr)


def _command(arguments: list[str]) -> list[str]:
    """Return what was typed; of `forget` only the options, since whom it is about must not be kept."""
    if arguments[:1] != ["forget"]:
        return arguments
    return ["forget", *(word.partition("=")[0] for word in arguments if word.startswith("-"))]


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Append a line with the time and an entry to a log, which is begun anew when it is large; never fails."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > MAXIMUM_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"at": datetime.now(timezone.utc).isoformat(), **entry}) + "\n")
        path.chmod(0o600)
    except OSError:
        pass
