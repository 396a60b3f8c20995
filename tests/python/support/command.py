"""The command in a process of its own, and a server of a test's own."""

from __future__ import annotations

import atexit
import os
import resource
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from granary.warehouse import server
from granary.warehouse.layout import find_binaries, plan
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings
from tests.python.support import warm

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

GRANARY = "from granary.cli.main import main; main()"
"""The command, as Python code."""


def granary(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return warm.run(GRANARY, *arguments, folder=PROJECT, environment=settings.environment())


def _home() -> Path:
    """Make a home with a short path, which the server's user may enter."""
    home = Path(tempfile.mkdtemp(prefix="granary-", dir="/tmp"))
    home.chmod(0o755)
    return home


@cache
def _prepared(_binaries: Path) -> Path:
    """Return the data of a server that was made, prepared and stopped, once for the programs that are found now."""
    home = _home()
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    settings = Settings(home=home, external=False, host=str(home / "run"))
    server.up(settings)
    server.down(settings)
    return plan(home).data


@contextmanager
def own_server(monkeypatch: pytest.MonkeyPatch, file_limit: int | None = None) -> Iterator[Settings]:
    """Run an embedded server of this test's own, which it may break; its files may be limited to some bytes each.

    Its data are a copy of what `server.up` made for the first test that asked.
    """
    home = _home()
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GRANARY_HOME", str(home))
    settings = Settings.load()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        subprocess.run(["cp", "-Rp", str(_prepared(find_binaries())), str(plan(home).data)], check=True)
        if file_limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, before[1]))
        server.up(settings)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        yield settings
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        server.down(settings)
        shutil.rmtree(home, ignore_errors=True)
