"""Where this retailer's systems are, for the loaders: lines of `sources.env`, a file for its owner only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from demo.files import put

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def read(path: Path) -> dict[str, str]:
    """Return the KEY=VALUE lines of a file, which need not be there, without its blanks and comments."""
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def lookup(path: Path, name: str) -> str | None:
    """Return a setting as the loaders do: the environment's, else the file's."""
    return os.environ.get(name) or read(path).get(name)


def replace(path: Path, settings: Mapping[str, str | None]) -> None:
    """Set these lines, remove those whose value is None, and leave every other line as it is."""
    old = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in old if line.partition("=")[0].strip() not in settings]
    lines = [*kept, *(f"{name}={value}" for name, value in settings.items() if value is not None)]
    if lines:
        put(path, "".join(f"{line}\n" for line in lines).encode(), mode=0o600)
        path.chmod(0o600)
    else:
        path.unlink(missing_ok=True)
