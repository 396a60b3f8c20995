"""dbt, started before it is known what it shall do: it imports and parses while the loads run, 4 s of the other core.

`python -m granary.dbt.ahead` makes itself ready and waits for one line: the arguments and the environment of a command.
It ends with its input, if none comes. There is one at a time in a process, for the next build that asks.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from granary.dbt import manifest as dbt_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.warehouse.settings import Settings

_waiting: list[subprocess.Popen[bytes]] = []


def start(settings: Settings) -> None:
    """Start dbt, if none waits yet and the project is parsed: one that is not is parsed once, by `prepare`."""
    if not _waiting and dbt_manifest.is_prepared(settings):
        folder = dbt_manifest.folder(settings) / "ahead"
        _waiting.append(
            subprocess.Popen(
                [sys.executable, "-m", "granary.dbt.ahead", str(dbt_manifest.folder(settings))],
                cwd=dbt_manifest.PROJECT_DIR,
                env=dbt_manifest.environment(settings, folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )


def take(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes] | None:
    """Have the dbt that waits run this command of dbt, and return it; None if there is none, or it has died."""
    with suppress(IndexError, BrokenPipeError):
        process = _waiting.pop()
        if process.stdin:  # it is a pipe
            with process.stdin as order:
                order.write(json.dumps([command[len(dbt_manifest.DBT) :], environment]).encode() + b"\n")
        process.args = command
        return process
    return None


def stop() -> None:
    """End a dbt that nobody needed; it has done nothing."""
    while _waiting:
        with _waiting.pop() as process:
            process.kill()


def main(parsed: str) -> None:
    """Be ready, and run what is asked for."""
    # As in granary.dbt.process: the process ends before its garbage matters.
    gc.disable()
    from dbt.cli.main import dbtRunner  # noqa: PLC0415

    from dbt_granary import install, run  # noqa: PLC0415
    from granary.dbt.child_process import end_with_parent  # noqa: PLC0415

    end_with_parent()
    install()
    variables = json.dumps(dbt_manifest.INCREMENTAL_VARS)
    partial = f"{parsed}/{dbt_manifest.PARTIAL_PARSE}"
    dbtRunner().invoke(
        ["parse", "--quiet", "--no-write-json", "--vars", variables, "--partial-parse-file-path", partial]
    )
    if order := sys.stdin.readline():
        sys.argv[1:], environment = json.loads(order)
        os.environ.clear()
        os.environ.update(environment)
        run()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(sys.argv[1])
