"""Prints the rows of an ORC file as an Arrow stream; run by `columnar.py` as a process of its own.

One flipped bit can make the reader of ORC end its process with a segmentation fault (pyarrow 26.0.1). It imports
nothing of Granary's.
"""

from __future__ import annotations

import json
import sys
from typing import Any

BATCH_ROWS = 131_072
HERE = 4
"""Exit code: this machine failed, and not the file."""
OUTSIDE = 5
"""Exit code: the columns that stderr names, as JSON, have times that Arrow's nanoseconds cannot hold."""
NANOSECONDS = "out of range for nanosecond"
"""What Arrow says of them; it reads ORC in no other unit."""


def _readable(file: Any, stripe: int, column: str) -> bool:
    """Return whether one column of a stripe can be read."""
    try:
        file.read_stripe(stripe, columns=[column])
    except Exception:  # whatever it is, it is not what the caller asks for
        return False
    return True


def main() -> int:
    """Read a file from standard input, stripe by stripe."""
    import pyarrow as pa  # noqa: PLC0415 - its errors are reported like others
    from pyarrow import orc  # noqa: PLC0415

    with open(0, "rb") as source, open(1, "wb") as out:
        file = orc.ORCFile(source)
        with pa.ipc.new_stream(out, file.schema) as stream:
            for number in range(file.nstripes):
                try:
                    stripe = file.read_stripe(number)
                except pa.ArrowInvalid as error:
                    if NANOSECONDS not in str(error):
                        raise
                    names = [name for name in file.schema.names if not _readable(file, number, name)]
                    print(json.dumps(names), file=sys.stderr)
                    return OUTSIDE
                for at in range(0, stripe.num_rows, BATCH_ROWS):
                    stream.write_batch(stripe.slice(at, BATCH_ROWS))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:  # whatever a damaged byte leads to
        print(str(error) or type(error).__name__, file=sys.stderr)
        here = isinstance(error, (MemoryError, ImportError)) or getattr(error, "errno", None) is not None
        sys.exit(HERE if here else 1)
