"""dbt, started before it is known what it shall do: it imports and parses while the loads run, 4 s of the other core.

There is one at a time in a process, for the next build that asks.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from granary.dbt import manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.warehouse.settings import Settings

_waiting: list[subprocess.Popen[bytes]] = []


def start(settings: Settings, project: str) -> None:
    """Start dbt, if none waits yet and the project is parsed: one that is not is parsed once, by `prepare`.

    Args:
        settings: the warehouse.
        project: the project's fingerprint.
    """
    if _waiting or not manifest.is_of(settings, project):
        return
    home = manifest.folder(settings)
    environment = manifest.environment(settings, home / "ahead") | {manifest.PARSED: str(home / manifest.PARTIAL_PARSE)}
    pipe = subprocess.PIPE
    _waiting.append(
        subprocess.Popen(
            manifest.DBT,
            cwd=manifest.PROJECT_DIR,
            env=environment,
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.STDOUT,
        )
    )


def take(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes] | None:
    """Have the dbt that waits run this command of dbt, and return it; None if there is none, or it has died."""
    with suppress(IndexError, BrokenPipeError):
        process = _waiting.pop()
        if process.stdin:  # it is a pipe
            with process.stdin as order:
                order.write(json.dumps([command[len(manifest.DBT) :], environment]).encode() + b"\n")
        process.args, process.stdin = command, None
        return process
    return None


def stop() -> None:
    """End a dbt that nobody needed; it has done nothing."""
    while _waiting:
        with _waiting.pop() as process:
            process.kill()
