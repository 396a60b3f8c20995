"""Where files lie: on disk, S3, SFTP and HTTP. Unchanged ones are not opened, corrected ones replace their rows, and
those that are still being written are left alone."""

from __future__ import annotations

import base64
import gzip
import io
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncssh
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from granary.readers.files import FileReader
from granary.readers.files.remote import RemoteStore
from granary.readers.files.store import LocalStore
from granary.sources.units import StillWrittenError
from granary.warehouse.errors import GranaryError
from tests.python.engine.files.conftest import PEOPLE, Web, bucket_files, remote_files, table
from tests.python.support.workbooks import archive, workbook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.python.engine.files.conftest import Store, Zone

HEADER = "id,name,born,score\n"
ADA, BO, CY = "1,Ada,,1\n", "2,Bo,,2\n", "3,Cy,,3\n"


@dataclass
class Place:
    """A kind of landing zone: its location, who may read it, and how a file gets there."""

    at: str
    credentials: dict[str, str]
    put: Callable[[str, str], Any]
    remove: Callable[[str], Any]


@pytest.fixture(params=["disk", "s3", "sftp"])
def place(request: pytest.FixtureRequest, zone: Zone) -> Iterator[Place]:
    """Return an empty landing zone of each kind."""
    if request.param == "disk":
        yield Place(str(zone.folder), {}, zone.put, lambda name: (zone.folder / name).unlink())
        return
    store: Store = request.getfixturevalue("store")
    folder = zone.name
    if request.param == "s3":
        bucket = bucket_files(store)
        yield Place(
            store.s3(f"landing/{folder}"),
            store.s3_credentials,
            lambda name, text: bucket.pipe_file(f"landing/{folder}/{name}", text.encode()),
            lambda name: bucket.rm_file(f"landing/{folder}/{name}"),
        )
    else:
        files = remote_files(store)
        files.makedirs(f"/{folder}/sub", exist_ok=True)
        yield Place(
            store.sftp(folder),
            store.sftp_credentials,
            lambda name, text: files.pipe_file(f"/{folder}/{name}", text.encode()),
            lambda name: files.rm_file(f"/{folder}/{name}"),
        )


def test_ledger_of_files(zone: Zone, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """New files land, unchanged ones are left, corrected ones replace their rows, files that vanish keep theirs."""

    def load() -> Any:
        return zone.load(table("**/people*.csv"), at=place.at, credentials=place.credentials)

    place.put("people_1.csv", HEADER + ADA + BO)
    place.put("sub/people_2.csv", HEADER + CY)
    place.put("people_3.csv.tmp", HEADER + "9,no,,9\n")
    place.put("_people_4.csv", HEADER + "9,no,,9\n")
    first = load()
    assert first.units_loaded == ("people_1.csv", "sub/people_2.csv")
    assert zone.rows("id, name", "id") == [(1, "Ada"), (2, "Bo"), (3, "Cy")]
    assert load().status == "unchanged"
    place.put("people_1.csv", HEADER + ADA.replace("Ada", "Eve"))
    corrected = load()
    assert (corrected.units_loaded, corrected.rows_deleted) == (("people_1.csv",), 2)
    assert zone.rows("id, name", "id") == [(1, "Eve"), (3, "Cy")]
    place.remove("sub/people_2.csv")
    assert load().status == "unchanged"
    assert len(zone.rows("id")) == 2
    _wait_until_trusted(place)
    assert load().status == "unchanged"  # the ledger learns the version that it can trust now
    opened: list[str] = []
    for kind in (LocalStore, RemoteStore):
        monkeypatch.setattr(kind, "content", lambda _, entry: opened.append(entry.name))
        monkeypatch.setattr(kind, "local", lambda _, entry: opened.append(entry.name))
    assert load().status == "unchanged"
    assert opened == []


def _wait_until_trusted(place: Place) -> None:
    """Wait until every file is old enough for its times to be believed."""
    end = time.monotonic() + 30
    reader = FileReader(place.at, credentials=place.credentials)
    while any(unit.version is None for unit in reader.units(table("**/people*.csv"), None)):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_file_that_changes_while_it_is_read_is_left_for_later(zone: Zone, place: Place) -> None:
    place.put("people.csv", HEADER + ADA)
    reader = FileReader(place.at, credentials=place.credentials)
    [unit] = reader.units(table(), None)
    assert unit.content is not None
    place.put("people.csv", HEADER + ADA + BO)
    unit.content()
    with pytest.raises(StillWrittenError):
        list(reader.read(table(), unit, None))
    assert zone.load(at=place.at, credentials=place.credentials).rows_loaded == 2


def test_a_file_that_grows_while_it_is_read_is_left_for_later(zone: Zone) -> None:
    path = zone.put("people.csv", HEADER + ADA * 300_000)
    reader = FileReader(str(zone.folder))
    [unit] = reader.units(table(), None)
    source_batches = reader.read(table(), unit, None)
    assert next(source_batches).batch.num_rows > 0
    with path.open("a") as file:
        file.write(BO)
    with pytest.raises(StillWrittenError):
        list(source_batches)


def test_a_cut_off_file_that_is_still_growing_is_no_damaged_file(zone: Zone) -> None:
    path = zone.put("people.csv", HEADER + '1,"Ada')
    reader = FileReader(str(zone.folder))
    [unit] = reader.units(table(), None)
    source_batches = reader.read(table(), unit, None)
    path.write_text(HEADER + '1,"Ada",,1\n')
    with pytest.raises(StillWrittenError):
        list(source_batches)


def test_settling_files_and_markers(zone: Zone) -> None:
    zone.put("people_1.csv", HEADER + ADA, age=100)
    zone.put("people_2.csv", HEADER + BO, age=5)
    zone.put("people_2.csv.done", "", age=5)
    assert zone.load(settle=30).units_loaded == ("people_1.csv",)
    assert zone.load(table("people*.csv"), done=".done").units_loaded == ("people_2.csv",)
    zone.put("day/people_3.csv", HEADER + CY)
    assert zone.load(table("day/*.csv"), done="_SUCCESS").status == "unchanged"
    zone.put("day/_SUCCESS", "")
    assert zone.load(table("day/*.csv"), done="_SUCCESS").units_loaded == ("day/people_3.csv",)


@pytest.mark.parametrize(
    "name",
    [
        "people.csv.part",
        "people.csv.crdownload",
        "people.CSV.TMP",
        ".people.csv.swp",
        "people.csv~",
        "people.csv.filepart",
        "people.csv._COPYING_",
        "people/_temporary/0.csv",
        "people/.hidden/0.csv",
        "people.inprogress.1",
    ],
)
def test_temporary_names(zone: Zone, name: str) -> None:
    zone.put(name, HEADER + ADA)
    assert zone.load(table("**/*")).units == 0


def test_young_times_prove_nothing(zone: Zone) -> None:
    path = zone.put("people.csv", HEADER + ADA, age=0)
    zone.load()
    seen = path.stat()
    path.write_text(HEADER + ADA.replace("Ada", "Eve"))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))  # same size, same time: only the content differs
    assert zone.load().rows_deleted == 1
    assert zone.rows("name") == [("Eve",)]


def test_touched_file_is_not_read_again(zone: Zone) -> None:
    path = zone.put("people.csv", HEADER + ADA)
    zone.load()
    os.utime(path, (1, 1))
    assert zone.load().status == "unchanged"


def test_each_kind_of_format_from_s3(zone: Zone, store: Store) -> None:
    """Read from the beginning, packed, by seeking, as an archive, and as a workbook."""
    out = io.BytesIO()
    pq.write_table(pa.table({"id": [2], "name": ["b"]}), out)
    files = bucket_files(store)
    for name, content in {
        "people_1.csv.gz": gzip.compress(b"id,name\n1,a\n"),
        "people_2.parquet": out.getvalue(),
        "people_3.zip": archive(**{"a.csv": b"id,name\n3,c\n"}),
        "people_4.xlsx": workbook(A=[["id", "name"], [4, "d"]]),
        "people_5.jsonl": b'{"id":5,"name":"e"}',
    }.items():
        files.pipe_file(f"landing/{zone.name}/{name}", content)
    contract = table(columns=PEOPLE[:2])
    zone.load(contract, at=store.s3(f"landing/{zone.name}"), credentials=store.s3_credentials)
    assert zone.rows("id, name") == [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")]


def test_files_of_the_web(zone: Zone, web: str) -> None:
    zone.put("people.csv", HEADER + ADA)
    assert zone.load(table("people.csv"), at=web).rows_loaded == 1
    assert zone.rows("id, name") == [(1, "Ada")]
    Web.asked.clear()
    assert zone.load(table("people.csv"), at=web).status == "unchanged"
    assert {line.split()[0] for line in Web.asked} == {"HEAD"}
    zone.put("people.csv", HEADER + BO + CY, age=30)
    assert zone.load(table("people.csv"), at=web).rows_deleted == 1
    assert zone.rows("id, name") == [(2, "Bo"), (3, "Cy")]


def test_private_files_of_the_web(zone: Zone, web: str) -> None:
    zone.put("private/people.csv", HEADER + ADA)
    right = {"username": "ada", "password": "web-secret"}
    assert zone.load(table("people.csv"), at=f"{web}/private", credentials=right).rows_loaded == 1
    with pytest.raises(GranaryError, match="refuses our credentials") as error:
        zone.load(table("people.csv"), at=f"{web}/private", credentials={"username": "ada", "password": "wrong-secret"})
    assert "wrong-secret" not in str(error.value)
    with pytest.raises(GranaryError, match="no such file"):
        zone.load(table("missing.csv"), at=web)
    zone.put("private/people.csv", HEADER + BO)
    header = {"Authorization": f"Basic {base64.b64encode(b'ada:web-secret').decode()}"}
    assert zone.load(table("people.csv"), at=f"{web}/private", credentials=header).rows_deleted == 1


def test_any_place_of_fsspec(zone: Zone) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"/{zone.name}/people.csv", (HEADER + ADA).encode())
    assert zone.load(at=f"memory://{zone.name}").rows_loaded == 1
    memory.pipe_file(f"/{zone.name}/people.csv", (HEADER + BO).encode())
    assert zone.load(at=f"memory://{zone.name}").rows_deleted == 1


def test_secrets_are_not_shown(zone: Zone, store: Store) -> None:
    wrong = {"key": "granary-key", "secret": "wrong-secret"}
    with pytest.raises(GranaryError) as error:
        zone.load(at=store.s3("landing/ready"), credentials=wrong)
    assert "wrong-secret" not in f"{error.value}{error.value.__cause__}"
    with pytest.raises(GranaryError, match="refuses our credentials") as error:
        zone.load(at=store.sftp("ready"), credentials=store.sftp_credentials | {"password": "wrong-secret"})
    assert "wrong-secret" not in f"{error.value}{error.value.__cause__}"
    reader = FileReader("sftp://user:url-secret@127.0.0.1/x", credentials=wrong)
    assert "secret" not in f"{reader!r}{reader.store!r}{reader.store.place}"


def test_a_login_by_a_key(zone: Zone, store: Store) -> None:
    remote_files(store).pipe_file(f"/{zone.name}/people.csv", (HEADER + ADA).encode())
    login = {"username": "keyed", "client_keys": str(store.client_key), "known_hosts": str(store.known_hosts)}
    assert zone.load(at=store.sftp(zone.name), credentials=login).rows_loaded == 1
    with pytest.raises(GranaryError, match="refuses our credentials"):
        zone.load(at=store.sftp(zone.name), credentials=login | {"username": "granary"})


def test_a_server_with_another_host_key_is_refused(zone: Zone, store: Store, tmp_path_factory: Any) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    known = tmp_path_factory.mktemp("known") / "hosts"
    known.write_text(f"[127.0.0.1]:{store.sftp_port} {other}")
    with pytest.raises(GranaryError, match="host key is not known"):
        zone.load(at=store.sftp("ready"), credentials=store.sftp_credentials | {"known_hosts": str(known)})


def test_a_server_that_is_not_there(zone: Zone) -> None:
    with pytest.raises(GranaryError, match="the server cannot be read"):
        zone.load(table("people.csv"), at="http://127.0.0.1:9")
