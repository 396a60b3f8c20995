"""Errors of our machine are no damage of a file: its load fails, the others land, and the next load reads it."""

from __future__ import annotations

import errno
import gzip
import io
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from granary.cli import main as cli
from granary.readers.files import columnar, copies
from granary.readers.files import reader as files_reader
from granary.readers.files.store import LocalStore
from granary.readers.files.unpack import damaged
from granary.warehouse.errors import GranaryError
from tests.python.engine.files.conftest import PEOPLE, bucket_files, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.python.engine.files.conftest import Store, Zone

CONTRACT = table(columns=PEOPLE[:2])
PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def packed(*ids: int) -> bytes:
    """Return people as gzipped Parquet, which is unpacked into the folder for temporary files."""
    out = io.BytesIO()
    pq.write_table(pa.table({"id": ids, "name": ["x"] * len(ids)}), out)
    return gzip.compress(out.getvalue())


class Full(io.BytesIO):
    """A file on a disk that is full."""

    def write(self, _: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _full(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(files_reader.tempfile, "TemporaryFile", lambda **_: Full())


def _no_folder(patch: pytest.MonkeyPatch) -> None:
    def none(**_: Any) -> IO[bytes]:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    patch.setattr(files_reader.tempfile, "TemporaryFile", none)


def _failing_disk(patch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    patch.setattr(columnar, "read_parquet", broken)


def _no_memory(patch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise pa.ArrowMemoryError("malloc of size 4096 failed")

    patch.setattr(columnar, "read_parquet", broken)


def _too_many_open(patch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    patch.setattr(columnar, "read_parquet", broken)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (_full, "No space left on device in the folder for temporary files"),
        (_no_folder, "no folder for temporary files that can be written"),
        (_failing_disk, "Input/output error"),
        (_no_memory, "too little memory left"),
        (_too_many_open, "Too many open files"),
    ],
    ids=lambda value: getattr(value, "__name__", "").strip("_"),
)
def test_a_fault_of_the_machine_quarantines_nothing_and_the_next_load_reads_the_file(
    zone: Zone, fault: Callable[[pytest.MonkeyPatch], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone.put("people_1.parquet.gz", packed(1, 2))
    with monkeypatch.context() as patch:
        fault(patch)
        with pytest.raises(GranaryError, match=words) as error:
            zone.load(CONTRACT)
        assert "damaged" not in str(error.value)
        zone.put("people_2.csv", "id,name\n3,Cy\n")
        result = zone.load(CONTRACT)
        assert (result.units_loaded, result.units_unreadable) == (("people_2.csv",), ())
        assert [(one.unit, words in one.reason) for one in result.failed] == [("people_1.parquet.gz", True)]
    assert zone.query("select count(*) from ops.quarantine where source = $1", zone.name) == [(0,)]
    assert zone.load(CONTRACT).units_loaded == ("people_1.parquet.gz",)
    assert zone.rows("id, name") == [(3, "Cy"), (1, "x"), (2, "x")]


def test_a_file_that_wants_more_memory_than_any_machine_has_is_damaged(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise pa.ArrowMemoryError(f"malloc of size {PHYSICAL * 4} failed")

    monkeypatch.setattr(columnar, "read_parquet", broken)
    zone.put("people_1.parquet", packed(1))
    assert zone.load(CONTRACT).units_unreadable == ("people_1.parquet",)


def test_what_a_library_quotes_of_a_file_is_not_told() -> None:
    for words in ("CSV conversion error to int64: invalid value 'Ada'", "Expected 2 columns, got 3: Ada,Lovelace,x"):
        error = damaged(pa.ArrowInvalid(words), "people.csv")
        assert "Ada" not in str(error)
        assert words.partition("'")[0].partition(":")[0] in str(error)


def test_a_file_without_permission_costs_itself_and_is_read_once_there_is_one(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone.put("people_1.csv", "id,name\n1,Ada\n")
    zone.put("people_2.csv", "id,name\n2,Bo\n")
    really = Path.open

    def refused(self: Path, *arguments: Any, **more: Any) -> Any:
        if self.name == "people_1.csv":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really(self, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refused)
        result = zone.load(CONTRACT)
        assert (result.units_loaded, [one.unit for one in result.failed]) == (("people_2.csv",), ["people_1.csv"])
        assert "Permission denied" in result.failed[0].reason
    assert zone.load(CONTRACT).units_loaded == ("people_1.csv",)


def test_a_folder_that_cannot_be_looked_into_is_told(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    zone.put("people_1.csv", "id,name\n1,Ada\n")
    zone.put("closed/people_2.csv", "id,name\n2,Bo\n")
    really = os.scandir

    def refused(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refused)
        result = zone.load(table("**/people*.csv", columns=PEOPLE[:2]))
        assert (result.units_loaded, [one.unit for one in result.failed]) == (("people_1.csv",), ["closed"])
    assert zone.load(table("**/people*.csv", columns=PEOPLE[:2])).units_loaded == ("closed/people_2.csv",)


def test_a_file_that_goes_while_it_is_read_is_told_and_left(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = zone.put("people_1.csv", "id,name\n1,Ada\n")
    zone.put("people_2.csv", "id,name\n2,Bo\n")
    really = LocalStore.content

    def vanishing(self: LocalStore, entry: Any) -> str:
        gone.unlink(missing_ok=True)
        return really(self, entry)

    monkeypatch.setattr(LocalStore, "content", vanishing)
    result = zone.load(CONTRACT)
    assert (result.units_loaded, result.failed) == (("people_2.csv",), ())
    assert [(one.unit, one.outcome, one.reason) for one in result.not_loaded] == [
        ("people_1.csv", "waiting", "the file is gone")
    ]


def test_no_room_for_the_copy_of_a_remote_file(zone: Zone, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket_files(store).pipe_file(f"landing/{zone.name}/people.csv", b"id,name\n1,Ada\n")
    place = {"at": store.s3(f"landing/{zone.name}"), "credentials": store.s3_credentials}

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(copies.tempfile, "mkstemp", full)
        with pytest.raises(GranaryError, match="no copy can be made: No space left on device"):
            zone.load(CONTRACT, **place)
    assert zone.load(CONTRACT, **place).rows_loaded == 1


def test_the_command_ends_with_1_and_a_sentence_when_a_file_failed_and_others_landed(
    zone: Zone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    zone.put("people_1.parquet.gz", packed(1))
    zone.put("people_2.csv", "id,name\n2,Bo\n")
    _full(monkeypatch)
    result = zone.load(CONTRACT)
    cli.output.loads([result])
    told = capsys.readouterr()
    assert told.err.startswith(
        f"granary: {zone.name}.people: people_1.parquet.gz could not be loaded: this machine cannot read or unpack"
    )
    assert "people_2.csv" not in told.err
