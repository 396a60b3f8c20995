"""Compressed files as streams, with limits that end an archive bomb before it fills anything."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import zipfile
import zlib
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pyarrow as pa

from granary.sources.units import UnreachableError, UnreadableError, order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO, Any

    from granary.readers.files.limits import Limits

MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip"}
ARCHIVES = (*MAGIC, b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\xfd7zXZ", b"\x1f\x9d")
ENCRYPTED = 0x1
LINK = 0o120000
DAMAGED = (
    *(OSError, EOFError, MemoryError, NotImplementedError, RuntimeError),
    *(pa.ArrowInvalid, zipfile.BadZipFile, zlib.error),
)
ADVICE = "ask the source to deliver it again"
HERE = "fix that on this machine, and load again"
QUOTED = re.compile(r"(invalid value|, got \d+|cell (?:error )?value).*")
"""Where errors of Arrow and calamine begin to quote what is in the file: it may be personal."""
WANTED = re.compile(r"(?:m|re)alloc of size (\d+) failed")


def compression(head: bytes) -> str | None:
    """Return the compression that a file's first bytes tell: "gzip", "bz2", "zstd", "zip" or None."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


class Bounded(io.RawIOBase):
    """A stream that ends with an error when it grows beyond what its packed size allows."""

    def __init__(self, stream: Any, packed: int, limits: Limits, where: str) -> None:
        """Wrap a stream that has `read`; `packed` is the bytes that it comes from."""
        self.stream, self.where, self.seen, self.content = stream, where, 0, hashlib.sha256()
        self.most = min(limits.unpacked, max(limits.ratio_from, limits.ratio * packed))
        self.suspicious = max(limits.record, limits.ratio * packed)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer.

        Raises:
            UnreadableError: the stream is damaged, or unpacks to more than the limits allow.
        """
        try:
            block = self.stream.read(len(buffer))
        except DAMAGED as error:
            raise damaged(error, self.where) from None
        if not self.seen and block.startswith(ARCHIVES):
            raise UnreadableError("there is an archive within the archive", self.where, "unpack it once")
        self.seen += len(block)
        self.content.update(block)
        if self.seen > self.most:
            raise self._bomb(self.most)
        buffer[: len(block)] = block
        return len(block)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Have a bomb be called one, though a parser found something else in it before the limit was reached."""
        try:
            yield
        except UnreadableError:
            if self.seen > self.suspicious:
                raise self._bomb(self.suspicious) from None
            raise

    def _bomb(self, size: int) -> UnreadableError:
        return UnreadableError(
            f"the file unpacks to over {size:,} bytes, as an archive bomb does",
            self.where,
            "if it is legitimate, raise the limits of its FileReader",
        )


def content(stream: IO[bytes]) -> str:
    """Return the SHA-256 of what a stream of a packed file has unpacked so far, in hexadecimal."""
    bounded = getattr(stream, "raw", None)
    assert isinstance(bounded, Bounded)
    return bounded.content.hexdigest()


def damaged(error: BaseException, where: str, kind: str = "what it should be") -> UnreadableError | UnreachableError:
    """Return the error of a file that the library of its format, or of its compression, cannot read.

    What the operating system refuses says nothing of the file: those errors have a number, those of the libraries
    have none. A file that asks for more memory than any machine has is damaged all the same.
    """
    words = QUOTED.sub(r"\1", " ".join(str(error).split()))[:200] or type(error).__name__
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return UnreachableError(f"this machine cannot read or unpack the file: {_system(error)}", where, HERE)
    if isinstance(error, MemoryError):
        wanted = WANTED.search(words)
        if wanted is None or int(wanted[1]) < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
            return UnreachableError("this machine has too little memory left to read the file", where, HERE)
    return UnreadableError(f"the file is damaged or not {kind}: {words}", where, ADVICE)


def _system(error: OSError) -> str:
    """Return what the operating system refused, and where a person can do something about it."""
    words = os.strerror(error.errno or 0)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return f"{words} in the folder for temporary files (TMPDIR moves it)"
    if error.errno == errno.ENOENT:
        return "there is no folder for temporary files that can be written (TMPDIR names one)"
    return words


@contextmanager
def unpacked(path: Path, limits: Limits, where: str) -> Iterator[IO[bytes]]:
    """Open a file, or what is in it if it is compressed by gzip, bzip2 or zstd.

    Raises:
        UnreadableError: on opening or while reading: it is damaged, a bomb, or an archive of archives.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        kind = compression(raw.read(4))
        raw.seek(0)
        if kind in ("gzip", "bz2", "zstd"):
            packed = stack.enter_context(pa.OSFile(str(path)))
            stream = stack.enter_context(pa.CompressedInputStream(packed, kind))
            bounded = Bounded(stream, path.stat().st_size, limits, where)
            with bounded.named():
                yield io.BufferedReader(bounded, 1 << 20)
        else:
            yield raw


def members(archive: zipfile.ZipFile, pattern: str, limits: Limits, where: str) -> list[zipfile.ZipInfo]:
    """Return the files of a zip archive that match, in the order of units.

    Nothing is ever written under a member's name; a hostile name is refused all the same, for it tells of its sender.

    Raises:
        UnreadableError: too many members, a hostile name, a link, encryption, an archive, or a name that comes twice.
    """
    found = archive.infolist()
    if len(found) > limits.members:
        raise UnreadableError(f"the archive has over {limits.members:,} members", where, ADVICE)
    chosen = []
    for member in found:
        name = member.filename
        parts = PurePosixPath(name).parts
        problem = None
        if name.startswith("/") or ".." in parts or "\\" in name or ":" in name or not name.isprintable():
            problem = "has a hostile name"
        elif (member.external_attr >> 16) & 0o170000 == LINK:
            problem = "is a link"
        elif member.flag_bits & ENCRYPTED:
            problem = "is encrypted"
        if problem:
            raise UnreadableError(f"member {name[:80]!r} {problem}", where, ADVICE)
        hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
        if not member.is_dir() and not hidden and fnmatchcase(name, pattern):
            chosen.append(member)
    names = [member.filename for member in chosen]
    if len(set(names)) != len(names):
        raise UnreadableError("a member is in the archive twice", where, ADVICE)
    return sorted(chosen, key=lambda member: order(member.filename))


@contextmanager
def member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Limits, where: str) -> Iterator[IO[bytes]]:
    """Open one member of a zip archive.

    Raises:
        UnreadableError: on opening or while reading: it is damaged, a bomb, or an archive itself.
    """
    try:
        stream = archive.open(info)
    except DAMAGED as error:
        raise damaged(error, where) from None
    bounded = Bounded(stream, info.compress_size, limits, where)
    with stream, bounded.named():
        yield io.BufferedReader(bounded, 1 << 20)
