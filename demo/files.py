"""Files that appear whole or not at all, and are left alone when they are right already."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def put(path: Path, content: pa.Buffer | bytes, mode: int = 0o644) -> bool:
    """Make `path` hold exactly `content`; return whether it had to be written.

    Readers see the old file or the new one: the bytes go to a hidden neighbour that then takes the name. The
    neighbour's name is always the same, so what a kill leaves behind is overwritten by the next run.

    Raises:
        GranaryError: the file cannot be written (no space, no permission).
    """
    buffer = pa.py_buffer(content)
    neighbour = path.with_name(f".{path.name}.tmp")
    with writing(path):
        if _holds(path, buffer):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        neighbour.unlink(missing_ok=True)
        with os.fdopen(os.open(neighbour, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as handle:
            handle.write(memoryview(buffer))
        neighbour.replace(path)
    return True


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that cannot be written into a sentence."""
    try:
        yield
    except OSError as error:
        raise GranaryError(
            f"a file of the sample retailer cannot be written: {error.strerror or error}",
            str(path),
            "free space or set GRANARY_HOME",
        ) from None


def _holds(path: Path, buffer: pa.Buffer) -> bool:
    if not path.exists() or path.stat().st_size != buffer.size:
        return False
    return bool(pa.py_buffer(path.read_bytes()).equals(buffer))
