"""Writes the files of a source: every one atomically, and either all of them or none."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from granary.scaffold import dbt, source
from granary.scaffold.verify import check
from granary.sources.config import FILE
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from granary.scaffold.plan import PlannedSource

OWNER_ONLY = 0o600


@dataclass
class Undo:
    """How to take a half-finished set of files back."""

    before: dict[Path, bytes | None] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)

    def take_back(self) -> None:
        """Restore what was there before, and remove what was not."""
        for path, content in self.before.items():
            with suppress(OSError):
                path.unlink(missing_ok=True) if content is None else _replace(path, content, None)
        for folder in reversed(self.folders):
            with suppress(OSError):
                folder.rmdir()


def files(planned: PlannedSource) -> dict[str, str]:
    """Return the files of a source: path below the project -> content.

    The module comes last: with it the loader and the assets appear, and what they need is there by then.
    """
    folder = f"models/staging/{planned.name}"
    found = {f"{folder}/_{planned.name}__sources.yml": dbt.sources(planned)}
    for table in planned.tables:
        stem = f"{folder}/stg_{planned.name}__{table.name}"
        found[f"{stem}.sql"] = dbt.staging_sql(planned, table)
        found[f"{stem}.yml"] = dbt.staging_yaml(planned, table)
    if test := dbt.reconciliation(planned):
        found[f"tests/dbt/raw_{planned.name}_reconciles_with_ledger.sql"] = test
    return found | dict(planned.opening.files) | {f"ingestion/{planned.name}.py": source.module(planned)}


def write(planned: PlannedSource, project: Path, home: Path, *, force: bool) -> list[str]:
    """Write the files of a source into the project, and its settings into the owner-only file of the home folder.

    Returns:
        The paths below the project, in the order in which they were written.

    Raises:
        GranaryError: one of them is there already and `force` is not set, or one would not work, or cannot be
            written; in all cases everything is as it was.
    """
    contents = files(planned)
    check(planned, contents)
    there = [path for path in contents if (project / path).exists() or (project / path).is_symlink()]
    if there and not force:
        raise GranaryError(
            f"{len(there)} of the source's files {'is' if len(there) == 1 else 'are'} there already",
            ", ".join(there[:3]) + (" and others" if len(there) > 3 else ""),  # noqa: PLR2004
            "choose another name, or overwrite them with --force",
        )
    settings = _settings(home / FILE, planned.opening.settings)
    _put_all({home / FILE: settings, **{project / path: text for path, text in contents.items()}}, project)
    return list(contents)


def _put_all(contents: Mapping[Path, str], project: Path) -> None:
    """Write every file, or none."""
    undo = Undo()
    try:
        for path, content in contents.items():
            _put(path, content.encode(), undo, OWNER_ONLY if path.name == FILE else None)
    except BaseException as error:
        undo.take_back()
        if isinstance(error, OSError):
            where = str(error.filename or project)
            raise GranaryError(f"it cannot be written: {error.strerror}", where, "nothing was changed") from None
        raise


def write_new(contents: Mapping[str, str], project: Path) -> None:
    """Write new files into the project.

    Raises:
        GranaryError: one of them is there already or cannot be written; in both cases everything is as it was.
    """
    if there := [path for path in contents if (project / path).exists() or (project / path).is_symlink()]:
        raise GranaryError("the file is there already", ", ".join(there), "choose another name, or edit that file")
    overwrite(contents, project)


def overwrite(contents: Mapping[str, str], project: Path) -> None:
    """Write files into the project, over those that are there.

    Raises:
        GranaryError: one cannot be written; everything is as it was then.
    """
    _put_all({project / path: content for path, content in contents.items()}, project)


def leftovers(planned: PlannedSource, project: Path) -> list[str]:
    """Return staging files of the source's folder that are not among those written: of tables that are gone."""
    folder = project / "models/staging" / planned.name
    mine = {str(project / path) for path in files(planned)}
    return sorted(str(path.relative_to(project)) for path in folder.glob("stg_*") if str(path) not in mine)


def _put(path: Path, content: bytes, undo: Undo, mode: int | None = None) -> None:
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir()
        undo.folders.append(folder)
    undo.before[path] = path.read_bytes() if path.exists() else None
    _replace(path, content, mode)


def _replace(path: Path, content: bytes, mode: int | None) -> None:
    """Write a file beside its place and rename it into it, so that nobody ever reads half of it."""
    if mode is None:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".granary-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _settings(path: Path, values: Mapping[str, str]) -> str:
    """Return the file of settings with these values in it; other lines stay as they are."""
    for name, value in values.items():
        if value != value.strip() or not value.isprintable():
            raise GranaryError(f"the value of {name} has characters that a line of settings cannot hold", str(path))
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if line.partition("=")[0].strip() not in values]
    return "\n".join([*kept, *(f"{name}={value}" for name, value in values.items())]) + "\n"
