"""What is written to a destination is compressed (zstd) and, if there are recipients, encrypted (age).

Both are formats of their own standing: `age -d -i KEY FILE | zstd -d` reads every file without this program.
https://age-encryption.org/v1: X25519, then ChaCha20-Poly1305 in chunks, so that no change and no cut goes unnoticed.
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BLOCK_BYTES = 1 << 20
INSTALL = "install it: pip install 'granary-elt[backup]'"
WRONG_KEY = "the key does not open it"


class Counted:
    """A binary file that knows the bytes that went through it, and their SHA-256."""

    def __init__(self, file: IO[bytes]) -> None:
        """Begin with nothing."""
        self._file, self._state, self.size = file, hashlib.sha256(), 0
        self.closed = False

    @property
    def sha256(self) -> str:
        """The digest of what went through, in hexadecimal."""
        return self._state.hexdigest()

    def write(self, data: bytes | memoryview) -> int:
        """Hand it on."""
        block = bytes(data)
        self._note(block)
        self._file.write(block)
        return len(block)

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        block = self._file.read(size)
        self._note(block)
        return block

    def drain(self) -> None:
        """Read to the end."""
        while self.read(BLOCK_BYTES):
            pass

    def readable(self) -> bool:
        """Say yes: pyarrow asks."""
        return True

    def writable(self) -> bool:
        """Say yes: pyarrow asks."""
        return True

    def seekable(self) -> bool:
        """Say no."""
        return False

    def flush(self) -> None:
        """Do nothing: the destination does when the file is whole."""

    def close(self) -> None:
        """Do nothing, for the same reason."""

    def _note(self, block: bytes) -> None:
        self.size += len(block)
        self._state.update(block)


@contextmanager
def sealing(target: Counted, recipients: Sequence[str]) -> Iterator[Any]:
    """Yield a file to write what is to be sealed into `target`; all is there once the context has ended well."""
    if not recipients:
        with pa.CompressedOutputStream(pa.PythonFile(target, mode="w"), "zstd") as stream:
            yield stream
        return
    age, keys = _age(), _recipients(recipients)
    with (
        _beside(lambda file: age.encrypt_io(file, target, keys)) as file,
        pa.CompressedOutputStream(pa.PythonFile(file, mode="w"), "zstd") as stream,
    ):
        yield stream


@contextmanager
def unsealing(source: Counted, identities: Sequence[Any], *, encrypted: bool, where: str) -> Iterator[Any]:
    """Yield a file to read what was sealed.

    Raises:
        GranaryError: there is no key, it is another one, or the file was changed or cut.
    """
    try:
        if not encrypted:
            with pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd") as stream:
                yield stream
            return
        age = _age()
        if not identities:
            raise GranaryError("it is encrypted, and no key is set", where, "set GRANARY_BACKUP_KEY")
        with (
            _beside(lambda file: age.decrypt_io(source, file, list(identities)), writes=True) as file,
            pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as stream,
        ):
            yield stream
    except GranaryError:
        raise
    except (OSError, pa.ArrowException, EOFError) as error:
        raise damaged(where, type(error).__name__) from None
    except Exception as error:
        if type(error).__name__ == "DecryptError":
            todo = "set GRANARY_BACKUP_KEY to the one that it was made with"
            raise GranaryError(WRONG_KEY, where, todo) from None
        raise


def damaged(where: str, how: str) -> GranaryError:
    """Return the error for a file that is not as it was written."""
    return GranaryError(f"the file is damaged ({how})", where, "restore from another backup: `granary backup --list`")


@contextmanager
def _beside(work: Any, *, writes: bool = False) -> Iterator[IO[bytes]]:
    """Yield one end of a pipe; in a thread `work` has the other one, to read from, or to write into."""
    ends = os.pipe()
    ours, theirs = (
        os.fdopen(ends[not writes], "rb" if writes else "wb"),
        os.fdopen(ends[writes], "wb" if writes else "rb"),
    )
    failure: list[BaseException] = []

    def run() -> None:
        try:
            with theirs:
                work(theirs)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield ours
    except BaseException:
        with suppress(OSError):
            ours.close()
        thread.join()
        if failure and not isinstance(failure[0], BrokenPipeError):
            raise failure[0] from None
        raise
    with suppress(BrokenPipeError):
        ours.close()
    thread.join()
    if failure and not (writes and "roken pipe" in str(failure[0])):  # whoever reads may stop when it has enough
        raise failure[0]


def _age() -> Any:
    try:
        import pyrage  # type: ignore[import-untyped]  # noqa: PLC0415 - only those who encrypt need it
    except ImportError:
        raise GranaryError("encryption needs the package pyrage", todo=INSTALL) from None
    return pyrage


def _recipients(texts: Sequence[str]) -> list[Any]:
    age = _age()
    found = []
    for text in texts:
        try:
            found.append(age.x25519.Recipient.from_str(text))
        except age.RecipientError:
            raise GranaryError(f"{text[:12]!r}… is no public key of age", "encrypt_to", "it begins with age1") from None
    return found


def identities_of(text: str, where: str) -> list[Any]:
    """Return the private keys that a text has, one a line; lines that begin with # are comments.

    Raises:
        GranaryError: there is none, or a line is none. The text is not shown.
    """
    age = _age()
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        found = [age.x25519.Identity.from_str(line) for line in lines]
    except age.IdentityError:
        found = []
    if not found:
        raise GranaryError("it holds no private key of age", where, "one begins with AGE-SECRET-KEY-")
    return found


def new_identity() -> tuple[str, str]:
    """Return a new private key and the public one that goes with it."""
    identity = _age().x25519.Identity.generate()
    return str(identity), str(identity.to_public())
