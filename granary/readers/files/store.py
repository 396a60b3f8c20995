"""Where files lie: what every place offers, and a landing zone on the local disk."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Protocol

from granary.readers.files.formats import by_name
from granary.readers.files.patterns import enters, takes
from granary.sources.units import StillWrittenError, UnreachableError
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Set

YOUNG_SECONDS = 2.0
"""A file that changed this recently may change again within the same tick of its clock: its times prove nothing."""

HASH_BYTES = 1 << 20
LOOKED_INTO = 500
"""Folders that are looked through for files that no table takes."""

ADVICE = "ask the source to deliver it again"
ADVICE_HERE = "fix that on this machine or server, and load again"
UNPRINTABLE = "its name has characters that cannot be printed, or bytes that are no UTF-8"
LEAVES = "it is a link that leaves the landing zone"
Step = tuple[str, bool]


@dataclass(frozen=True)
class Entry:
    """A file as it is now: its name below the location, bytes, when it changed, and its cheap identity.

    `identity` compares one look with another; `version` is the same, or None if it cannot be trusted across loads.
    `problem` says why it is not a file that could be read, `unreachable` why nobody knows.
    """

    name: str
    size: int
    modified: float | None
    identity: str
    version: str | None
    problem: str = ""
    unreachable: str = ""


class Store(Protocol):
    """A place with files. Every error is a GranaryError, and none shows a secret."""

    place: str

    def entries(self, pattern: str, table: str) -> list[Entry]:
        """Return what is there under names that match the pattern, in order of the names, be it a file or not."""
        ...

    def names(self) -> Iterator[str]:
        """Yield the names of the files in the first `LOOKED_INTO` folders that are not hidden."""
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


def looked_into(folder: str) -> bool:
    """Return whether files of this folder are reported if no table takes them: not those of a hidden one."""
    return not any(part[0] in "._" for part in folder.split("/"))


def shown(name: str) -> str:
    """Return a name as it can be printed and kept: what cannot is written as Python does."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)


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
        found = []
        for name, folder in self._walk(lambda inner: enters(pattern, inner)):
            if takes(pattern, name) or (folder and enters(pattern, name)):
                found.append(self._look(name, entered=folder and enters(pattern, name)))
        return [entry for entry in found if entry is not None]

    def names(self) -> Iterator[str]:
        """Yield the names of the files in the first folders, as people read them; near ones come first."""
        waiting, seen = deque([""]), set[str]()
        while waiting and len(seen) < LOOKED_INTO:
            folder = waiting.popleft()
            real = os.path.realpath(self.folder / folder)
            if real in seen:
                continue
            seen.add(real)
            for name, is_folder in self._walk(lambda _: False, folder):
                if not is_folder:
                    yield shown(name)
                elif name != folder and looked_into(name) and self._inside(name):
                    waiting.append(name)

    def entry(self, name: str) -> Entry:
        """Return a file as it is now."""
        entry = self._look(name)
        if entry is None or entry.problem:
            raise StillWrittenError(entry.problem if entry else "the file is gone", f"{self.place}/{name}", ADVICE)
        if entry.unreachable:
            raise UnreachableError(entry.unreachable, f"{self.place}/{name}", ADVICE_HERE)
        return entry

    def content(self, entry: Entry) -> str:
        """Return the file's SHA-256; if the file changes meanwhile, `FileReader.read` finds out."""
        path = self.local(entry)
        try:
            with path.open("rb") as handle:
                return digest(handle)
        except FileNotFoundError:
            raise StillWrittenError("the file is gone", f"{self.place}/{entry.name}", ADVICE) from None
        except OSError as error:
            raise UnreachableError(_why(error), f"{self.place}/{entry.name}", ADVICE_HERE) from None

    def local(self, entry: Entry) -> Path:
        """Return the file's path, links resolved."""
        if (path := self._inside(entry.name)) is None:
            raise StillWrittenError(LEAVES, f"{self.place}/{entry.name}", ADVICE)
        return path

    def verify(self, entry: Entry) -> None:
        """Compare the file with the entry."""
        same(entry, self.entry(entry.name), self.place)

    def _walk(self, wanted: Callable[[str], bool], folder: str = "", above: Set[str] = frozenset()) -> Iterator[Step]:
        """Yield what is below a folder, in order: (name, whether it is a folder that is not looked into)."""
        real = os.path.realpath(self.folder / folder)
        if real in above:
            return  # a link to a folder that it is in
        try:
            inside = sorted(os.scandir(self.folder / folder), key=lambda item: item.name)
        except OSError as error:
            if not folder:
                raise GranaryError(
                    f"the landing zone cannot be read: {error.strerror}", self.place, ADVICE_HERE
                ) from None
            yield folder, True
            return
        for item in inside:
            name = f"{folder}/{item.name}" if folder else item.name
            if not _is_folder(item):
                yield name, False
            elif self._inside(name) is None:
                yield name, True
            elif wanted(name):
                yield from self._walk(wanted, name, above | {real})
            else:
                yield name, True

    def _look(self, name: str, *, entered: bool = False) -> Entry | None:
        """Return what is there under a name, if there is; `entered`: a folder whose files should have been found."""
        problem = "" if name.isprintable() else UNPRINTABLE
        seen = None
        try:
            inside = self._inside(name)
            if inside is None:
                problem = problem or LEAVES
            elif not problem:
                seen = inside.stat()
                if entered:
                    os.scandir(inside).close()
        except FileNotFoundError:
            if not (self.folder / name).is_symlink():
                return None  # removed, or renamed, since the folder was listed
            problem = "it is a link that leads nowhere"
        except OSError as error:
            if error.errno != errno.ELOOP:
                return Entry(name, -1, None, "", None, unreachable=_why(error))
            problem = "it is a link that leads to itself"
        if seen and stat.S_ISDIR(seen.st_mode):
            if entered or by_name(name)[0] is None:
                return None
            problem = "it is a folder with a file's name"
        elif seen and not stat.S_ISREG(seen.st_mode):
            problem = "it is not a regular file"
        if problem or seen is None:
            return Entry(shown(name), -1, None, problem, None, problem=problem)
        identity = f"{seen.st_size}:{seen.st_mtime_ns}:{seen.st_ino}:{seen.st_ctime_ns}"
        young = time.time() - max(seen.st_mtime, seen.st_ctime) < YOUNG_SECONDS
        return Entry(name, seen.st_size, seen.st_mtime, identity, None if young else identity)

    @cached_property
    def _real(self) -> str:
        return os.path.realpath(self.folder)

    def _inside(self, name: str) -> Path | None:
        """Return the path of a file, links resolved, or None if it leads out of the folder.

        To resolve a path without any link costs ten times as much.

        Raises:
            OSError: links lead in a circle.
        """
        steps = name.split("/")
        path = Path(f"{self._real}/{name}")
        if ".." in steps or any(map(os.path.islink, accumulate(steps, os.path.join, initial=self._real))):
            try:
                path = path.resolve()
            except RuntimeError:  # before Python 3.13
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
            return path if Path(self._real) in path.parents else None
        return path


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:
        return False


def _why(error: OSError) -> str:
    return f"the file cannot be read: {error.strerror or type(error).__name__}"
