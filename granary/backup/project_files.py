"""What a backup has beside the server: the project's files; and, only if it is encrypted, the home's secrets."""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING, Any

from granary.backup.sealing import BLOCK_BYTES
from granary.privacy import suppression_list
from granary.sources.config import FILE
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings

LEFT_OUT = frozenset({"target", "dbt_packages", "logs", "node_modules", "__pycache__", "build", "dist"})
"""Folders that are made again; those that are hidden, too: an environment, a home, the history of git."""
SECRETS = (".env", ".pem", ".key", ".p12", ".pfx")
"""How the names of files end that are not written in clear."""
LARGEST = 5_000_000
"""Bytes of a file of a project; what is larger is data."""


def write_project(settings: Settings, target: Any) -> None:
    """Write the project's own files as an archive."""
    with tarfile.open(fileobj=target, mode="w|", bufsize=BLOCK_BYTES) as archive:
        for path in project_files(PROJECT, settings.home):
            archive.add(path, path.relative_to(PROJECT).as_posix(), recursive=False)


def project_files(project: Path, home: Path) -> Iterator[Path]:
    """Yield the files of a project that a backup has, in order."""
    for base, folders, names in os.walk(project):
        here = project / os.path.relpath(base, project)
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT and name[0] != "." and here / name != home)
        for name in sorted(names):
            path = here / name
            is_ours = not name.endswith(SECRETS) and path.is_file() and not path.is_symlink()
            if is_ours and path.stat().st_size <= LARGEST:
                yield path


def write_home(settings: Settings, target: Any) -> None:
    """Write what the home keeps beside the server and its sources need: settings of sources, the key of erasures."""
    with tarfile.open(fileobj=target, mode="w|", bufsize=BLOCK_BYTES) as archive:
        for path in (settings.home / FILE, suppression_list.folder(settings) / "key"):
            if path.exists():
                archive.add(path, path.relative_to(settings.home).as_posix(), recursive=False)
