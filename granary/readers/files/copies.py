"""Copies of remote files on this machine's disk, in a folder that only its owner may enter and that goes in the end."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from granary.sources.units import UnreachableError

if TYPE_CHECKING:
    from granary.readers.files.store import Entry

KEPT_BYTES = 4 << 30
"""Copies that are kept between hashing and loading; a file beyond them is fetched twice."""

PREFIX = "granary-files-"


def own_folder(prefix: str) -> tempfile.TemporaryDirectory[str]:
    """Return a new folder of this process; those of processes that were killed before they could remove them go."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*-*"):
        process = folder.name.removeprefix(prefix).partition("-")[0]
        with suppress(OSError, ValueError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            try:
                os.kill(int(process), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-")


class Copies:
    """Copies of remote files in a folder of their own, which goes when this does."""

    def __init__(self) -> None:
        self.folder: tempfile.TemporaryDirectory[str] | None = None
        self.kept: dict[str, tuple[str, Path | None, str]] = {}
        self.bytes = 0
        self.lent: Path | None = None

    def new(self) -> Path:
        """Return a new empty file that only its owner may read."""
        try:
            if self.folder is None:
                self.folder = own_folder(PREFIX)
            handle, name = tempfile.mkstemp(dir=self.folder.name)
        except OSError as error:
            raise UnreachableError(f"no copy can be made: {error.strerror}", "TMPDIR", "free or move it") from None
        os.close(handle)
        return Path(name)

    def keep(self, entry: Entry, path: Path, found: str) -> None:
        """Keep a copy for `take` if there is room for it, and its hash in any case."""
        size = path.stat().st_size
        if self.bytes + size > KEPT_BYTES:
            path.unlink()
            self.kept[entry.name] = entry.identity, None, found
        else:
            self.bytes += size
            self.kept[entry.name] = entry.identity, path, found

    def take(self, entry: Entry) -> tuple[Path | None, str | None]:
        """Return the copy of a file, if it is there, and the hash that it has to have."""
        identity, path, found = self.kept.pop(entry.name, ("", None, ""))
        if path is not None:
            self.bytes -= path.stat().st_size
            self.lend(path)
        return (path, found) if identity == entry.identity else (None, None)

    def lend(self, path: Path) -> None:
        """Remove the copy that was read before: files are read one after the other."""
        if self.lent is not None:
            self.lent.unlink(missing_ok=True)
        self.lent = path
