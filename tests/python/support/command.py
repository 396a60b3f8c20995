"""The command in a process of its own, and a server of a test's own."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from granary.warehouse import server
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def granary(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from granary.cli.main import main; main()", *arguments],
        cwd=PROJECT,
        env=settings.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def own_server(monkeypatch: pytest.MonkeyPatch, file_limit: int | None = None) -> Iterator[Settings]:
    """Run an embedded server of this test's own, which it may break; its files may be limited to some bytes each."""
    home = Path(tempfile.mkdtemp(prefix="granary-", dir="/tmp"))
    home.chmod(0o755)
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GRANARY_HOME", str(home))
    settings = Settings.load()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if file_limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, before[1]))
        server.up(settings)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        yield settings
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        server.down(settings)
        shutil.rmtree(home, ignore_errors=True)
