"""Settings of the sources: from the environment, or from the owner-only file in the warehouse's home."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from warehouse.errors import GranaryError

if TYPE_CHECKING:
    from warehouse.settings import Settings

FILE = "sources.env"


def setting(settings: Settings, name: str) -> str:
    """Return a source's setting; values may be secrets and never appear in errors or logs.

    Raises:
        GranaryError: it is set nowhere, or others than its owner may read the file.
    """
    if value := os.environ.get(name):
        return value
    path = settings.home / FILE
    if path.exists():
        if path.stat().st_mode & 0o077:
            raise GranaryError("others may read the file of secrets", str(path), f"run `chmod 600 {path}`")
        for line in path.read_text().splitlines():
            key, separator, value = line.partition("=")
            if separator and key.strip() == name:
                return value.strip()
    raise GranaryError(
        f"{name} is not set", str(path), "set it in the environment or that file; the sample's: `make demo`"
    )
