"""What the proofs that take hours have in common: `make chaos` and `make histories`."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def own_folder(name: str) -> Iterator[Path]:
    """Yield a folder that is thrown away at the end, also after Ctrl-C or SIGTERM; no warehouse is named any more."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    for variable in [variable for variable in os.environ if variable.startswith("PG")]:
        del os.environ[variable]
    base = Path(tempfile.mkdtemp(prefix=f"granary-{name}-", dir="/tmp"))  # short, since a socket's path has to be
    base.chmod(0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)
