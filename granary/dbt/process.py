"""dbt as a process of a run: `python -m granary.dbt.process build ...`.

Without arguments it makes itself ready, by imports and by the parse of the project, and waits for one line: arguments
and environment of what it shall do. It ends with its input, if none comes.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

from granary.dbt import manifest


def main() -> None:
    """Run dbt, or be ready for it."""
    # The process ends before its garbage matters (0.3 instead of 0.15 GB); looking for it takes an eighth of the time.
    gc.disable()
    from dbt_granary import install, recorded, run  # noqa: PLC0415
    from granary.dbt.child_process import end_with_parent  # noqa: PLC0415

    # After each run dbt writes the manifest again, 0.9 s: whoever starts this process has it.
    runnable: Any = import_module("dbt.task.runnable")
    runnable.write_manifest = lambda *_: None
    end_with_parent()  # a build that nobody waits for any more would go on, and publish
    if sys.argv[1:]:
        with recorded():
            run()
    from dbt.cli.main import dbtRunner  # noqa: PLC0415

    install()
    variables = json.dumps(manifest.INCREMENTAL_VARS)
    parse = ["parse", "--quiet", "--no-write-json", "--vars", variables]
    parsed = dbtRunner().invoke([*parse, "--partial-parse-file-path", os.environ[manifest.PARSED]]).result
    if not (order := sys.stdin.readline()):
        return
    sys.argv[1:], environment = json.loads(order)
    os.environ.clear()
    os.environ.update(environment)
    with recorded():
        if variables not in sys.argv:  # the project was parsed for these only
            run()
        done = dbtRunner(parsed).invoke(sys.argv[1:])  # type: ignore[arg-type] # a manifest, or None if it has an error
        sys.exit(0 if done.success else 2 if done.exception else 1)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
