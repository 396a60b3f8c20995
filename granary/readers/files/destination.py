"""Where backups lie: a folder of this machine, a bucket on S3, a folder of an SFTP server.

A file is there under its name as a whole or not at all; that a backup is complete says its description, which is
written last. Names are paths below the destination.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from granary.readers.files import sftp
from granary.readers.files.remote import OBJECTS, RemoteFiles
from granary.sources.units import StillWrittenError
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ADVICE = "check the destination, its credentials and the room that it has"
HALF = ".half"
"""What a file is called until it is whole."""


class Destination(Protocol):
    """A place with files. Every error is a GranaryError, and none shows a secret."""

    place: str
    """What it is called in words, without credentials."""
    note: str
    """What readers of the file that was written last should know; "" if they saw the old or the new one all along."""

    def names(self, folder: str) -> dict[str, int]:
        """Return the files below a folder with their bytes; of a folder that is not there, none."""
        ...

    def writing(self, name: str) -> Any:
        """Return a context that yields a binary file; it is there once the context has ended well."""
        ...

    def reading(self, name: str) -> Any:
        """Return a context that yields a binary file to read.

        Raises:
            FileNotFoundError: there is none.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...

    def free(self) -> int | None:
        """Return the bytes that it has left, if that is known."""
        ...


class Folder:
    """A folder of this machine, or of one whose disk is mounted here."""

    def __init__(self, path: Path) -> None:
        """Remember it; it is made when something is written."""
        self._path, self.place, self.note = path, str(path), ""

    def names(self, folder: str) -> dict[str, int]:
        """Return the files below a folder with their bytes."""
        top, found = self._path / folder, dict[str, int]()
        with self._explained():
            for base, _, files in os.walk(top):
                for name in files:
                    path = Path(base, name)
                    with suppress(FileNotFoundError):  # removed meanwhile
                        if not name.endswith(HALF):
                            found[path.relative_to(self._path).as_posix()] = path.stat().st_size
        return found

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Write beside the place, wait for the disk, and move it there."""
        path = self._path / name
        half = path.with_name(f"{path.name}.{os.getpid()}{HALF}")
        with self._explained():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                half.replace(path)
            except BaseException:
                with suppress(OSError):
                    half.unlink(missing_ok=True)
                raise
            _sync(path.parent)

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file."""
        with self._explained(), (self._path / name).open("rb") as file:
            yield file

    def remove(self, name: str) -> None:
        """Remove a file, and its folder if it was the last."""
        path = self._path / name
        with self._explained():
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()

    def free(self) -> int | None:
        """Return the bytes that its disk has left."""
        path = self._path
        while not path.exists():
            path = path.parent
        return shutil.disk_usage(path).free

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise GranaryError(f"the destination refuses it: {error.strerror}", self.place, ADVICE) from None


class Remote:
    """A bucket or a server's folder, by fsspec: what sources are read from, too."""

    def __init__(self, url: str, credentials: Mapping[str, str]) -> None:
        """Remember it; the server is asked when something is written or read."""
        self._files = RemoteFiles(url, credentials)
        self.place, self.note = self._files.place, ""

    def names(self, folder: str) -> dict[str, int]:
        """Return the files below a folder with their bytes."""
        top = self._files.path(folder)
        try:
            with self._files.explained(folder) as files:
                found = files.find(top, detail=True)
        except StillWrittenError:
            return {}
        pairs = {self._files.name(path): int(info.get("size") or 0) for path, info in found.items()}
        return {name: size for name, size in pairs.items() if name and not name.endswith(HALF)}

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Write; where a file is seen before it is whole, under another name first."""
        is_whole = self._files.scheme in OBJECTS
        path = self._files.path(name)
        place, aside, self.note = path if is_whole else path + HALF, f"{path}{sftp.ASIDE}{HALF}", ""
        is_sftp = self._files.scheme == "sftp"
        with self._files.explained(name) as files:
            if not is_whole:
                files.makedirs(path.rpartition("/")[0], exist_ok=True)
            if is_sftp:
                sftp.put_back(files, path, aside)
            file = files.open(place, "wb")
            try:
                yield file
            except BaseException:
                with suppress(Exception):  # what is left of it is never looked at
                    if is_whole:
                        file.discard()
                        file.closed = True  # or it is written when it is thrown away
                    else:
                        file.close()
                raise
            file.close()
            if is_sftp:
                self.note = "" if sftp.put(files, place, path, aside) else sftp.NOT_AT_ONCE
            elif not is_whole:
                if files.exists(path):
                    files.rm(path)
                files.mv(place, path)

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file."""
        try:
            with self._files.explained(name) as files, files.open(self._files.path(name), "rb") as file:
                yield file
        except StillWrittenError:
            raise FileNotFoundError(name) from None

    def remove(self, name: str) -> None:
        """Remove a file."""
        with suppress(StillWrittenError), self._files.explained(name) as files:
            files.rm(self._files.path(name))

    def free(self) -> int | None:
        """Return nothing: it does not say."""
        return None


def open_destination(location: str, credentials: Mapping[str, str]) -> Destination:
    """Return the destination of a folder or a URL."""
    scheme, separator, rest = location.partition("://")
    if not separator or scheme == "file":
        return Folder(Path(rest if separator else location).expanduser().absolute())
    return Remote(location, credentials)


def _sync(folder: Path) -> None:
    """Wait until the disk has the names of a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
