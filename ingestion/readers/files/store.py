"""Where files lie: a landing zone on the local disk. `remote.py` has the others, with the same four methods."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Protocol

from ingestion.readers.files.formats import by_name
from ingestion.spec import StillWrittenError
from warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

YOUNG_SECONDS = 2.0
"""A file that changed this recently may change again within the same tick of its clock: its times prove nothing."""

HASH_BYTES = 1 << 20
ADVICE = "ask the source to deliver it again"


@dataclass(frozen=True)
class Entry:
    """A file as it is now: its name below the location, bytes, when it changed, and its cheap identity.

    `identity` compares one look with another; `version` is the same, or None if it cannot be trusted across loads.
    """

    name: str
    size: int
    modified: float | None
    identity: str
    version: str | None


class Store(Protocol):
    """A place with files. Every error is a GranaryError, and none shows a secret."""

    place: str

    def entries(self, pattern: str, table: str) -> list[Entry]:
        """Return the files of a table, whose names below the place match the pattern, in order of their names."""
        ...

    def entry(self, name: str) -> Entry:
        """Return a file as it is now."""
        ...

    def content(self, entry: Entry) -> str:
        """Return the SHA-256 of a file, in hexadecimal; of one that changes meanwhile, a value that is no content's."""
        ...

    def local(self, entry: Entry) -> Path:
        """Return a path on this machine with the file's bytes."""
        ...

    def verify(self, entry: Entry) -> None:
        """Make sure, after reading, that the bytes were those of the entry.

        Raises:
            StillWrittenError: the file changed in between.
        """
        ...


def open_store(location: str, credentials: Mapping[str, str]) -> Store:
    """Return the store of a local folder or of a URL."""
    scheme, separator, rest = location.partition("://")
    if not separator:
        return LocalStore(Path(location))
    if scheme == "file":
        return LocalStore(Path(rest))
    from ingestion.readers.files.remote import RemoteStore  # noqa: PLC0415 - local files need no fsspec

    return RemoteStore(location, credentials)


def safe_pattern(pattern: str, place: str) -> str:
    """Return a pattern that stays below its place.

    Raises:
        GranaryError: it is absolute, or goes up.
    """
    if pattern.startswith("/") or ".." in PurePosixPath(pattern).parts or "\\" in pattern or "\0" in pattern:
        raise GranaryError(
            "the table's location leaves the landing zone", f"{place}: {pattern}", "name a path below it"
        )
    return pattern


def same(before: Entry, now: Entry, place: str) -> None:
    """Compare two looks at one file.

    Raises:
        StillWrittenError: it changed in between.
    """
    if before.identity != now.identity:
        raise StillWrittenError("the file changed while it was read", f"{place}/{now.name}", "it is left for later")


def digest(handle: IO[bytes]) -> str:
    """Return the SHA-256 of what is left to read, in hexadecimal."""
    state = hashlib.sha256()
    while block := handle.read(HASH_BYTES):
        state.update(block)
    return state.hexdigest()


class LocalStore:
    """A folder on this machine. Links may lead anywhere within it, and not out of it."""

    def __init__(self, folder: Path) -> None:
        """Remember the folder."""
        self.folder, self.place = folder, str(folder)

    def entries(self, pattern: str, table: str) -> list[Entry]:
        """Return the matching files, in order of their names."""
        if not self.folder.is_dir():
            raise GranaryError(f"the landing zone of {table} is missing", self.place, "mount or create it")
        names = [path.relative_to(self.folder).as_posix() for path in sorted(self.folder.glob(pattern))]
        for name in names:
            if not name.isprintable():
                raise GranaryError("a file has a hostile name", f"{self.place}: {name!a}", "remove it")
        return [entry for name in names if (entry := self._look(name)) is not None]

    def entry(self, name: str) -> Entry:
        """Return a file as it is now."""
        if (entry := self._look(name)) is None:
            raise GranaryError("the file is gone", f"{self.place}/{name}", ADVICE)
        return entry

    def content(self, entry: Entry) -> str:
        """Return the file's SHA-256; if the file changes meanwhile, `FileReader.read` finds out."""
        path = self.local(entry)
        try:
            with path.open("rb") as handle:
                found = digest(handle)
        except OSError as error:
            raise _unreadable(error, path) from None
        return found

    def local(self, entry: Entry) -> Path:
        """Return the file's path, links resolved."""
        return self._inside(entry.name)

    def verify(self, entry: Entry) -> None:
        """Compare the file with the entry."""
        same(entry, self.entry(entry.name), self.place)

    def _look(self, name: str) -> Entry | None:
        path = self.folder / name
        try:
            seen = self._inside(name).stat()
        except FileNotFoundError:
            return None  # removed, or renamed, since the folder was listed
        except OSError as error:
            raise _unreadable(error, path) from None
        if stat.S_ISDIR(seen.st_mode) and by_name(name)[0] is None:
            return None
        if not stat.S_ISREG(seen.st_mode):
            what = "Is a directory" if stat.S_ISDIR(seen.st_mode) else "it is no regular file"
            raise GranaryError(f"the file cannot be read: {what}", str(path), "remove it")
        identity = f"{seen.st_size}:{seen.st_mtime_ns}:{seen.st_ino}:{seen.st_ctime_ns}"
        young = time.time() - max(seen.st_mtime, seen.st_ctime) < YOUNG_SECONDS
        return Entry(name, seen.st_size, seen.st_mtime, identity, None if young else identity)

    @cached_property
    def _real(self) -> str:
        return os.path.realpath(self.folder)

    def _inside(self, name: str) -> Path:
        """Return the path of a file, links resolved; to resolve a path without any costs ten times as much."""
        steps = name.split("/")
        path = Path(f"{self._real}/{name}")
        if ".." in steps or any(map(os.path.islink, accumulate(steps, os.path.join, initial=self._real))):
            path = path.resolve()
            if Path(self._real) not in path.parents:
                where = str(self.folder / name)
                raise GranaryError("the file is a link that leaves the landing zone", where, "remove it")
        return path


def _unreadable(error: OSError, path: Path) -> GranaryError:
    return GranaryError(f"the file cannot be read: {error.strerror or type(error).__name__}", str(path), ADVICE)
