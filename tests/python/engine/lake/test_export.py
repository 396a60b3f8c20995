"""`granary export`: exact values in three formats, only what changed, and never half of it."""

from __future__ import annotations

import json
import shutil
import signal
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.table import StaticTable

from granary.lake.export import Wanted, again
from granary.lake.records import exports
from granary.readers.tables import place
from granary.warehouse.errors import GranaryError, UsageError
from tests.python.engine.lake.conftest import FORMATS, READERS, by_pyarrow, rides
from tests.python.engine.lake.killing import killed_at
from tests.python.support.command import granary

if TYPE_CHECKING:
    from tests.python.engine.lake.conftest import Lake, Store

UTC = timezone.utc
ROWS: list[dict[str, Any]] = [
    {
        "ride_id": 1,
        "day": date(2026, 1, 31),
        "fare": Decimal("10.25"),
        "rate": Decimal("0.000000000000000001"),
        "ended_at": datetime(2026, 1, 31, 23, 30, tzinfo=UTC),
        "began": datetime(2026, 1, 31, 22, tzinfo=UTC).replace(tzinfo=None),
        "token": None,
        "extra": '{"a": 1}',
        "stops": ["x", "y"],
        "small": 1,
        "photo": b"\0\xff",
        "is_paid": True,
        "wait": "08:30:00.000000",
        "weight": 0.5,
        "day_month": date(2026, 1, 1),
    },
    {
        **dict.fromkeys(("ended_at", "began", "extra", "stops", "photo", "wait", "weight")),
        "ride_id": 2,
        "day": date(2026, 1, 5),
        "fare": Decimal("99999999.99"),
        "rate": Decimal("1.500000000000000000"),
        "token": "6f1c2c9e-0000-4000-8000-000000000001",
        "small": 2,
        "is_paid": False,
        "day_month": date(2026, 1, 1),
    },
    {
        **dict.fromkeys(("rate", "began", "token", "extra", "photo", "is_paid", "wait", "weight")),
        "ride_id": 3,
        "day": date(2026, 2, 1),
        "fare": Decimal("0.01"),
        "ended_at": datetime(2026, 2, 1, tzinfo=UTC),
        "stops": [],
        "small": 3,
        "day_month": date(2026, 2, 1),
    },
]
BASE = [(1, Decimal("10.25")), (2, Decimal("99999999.99")), (3, Decimal("0.01"))]
LATER = [(1, Decimal("10.25")), (2, Decimal("99999999.99")), (3, Decimal("7.00")), (4, Decimal("1.00"))]
FOURTH = "insert into marts.rides (ride_id, day, fare) values (4, '2026-02-03', 1)"
CHANGED = ("update marts.rides set fare = 7 where ride_id = 3", FOURTH)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_reader_gets_the_exact_values(lake: Lake, kind: str) -> None:
    done = lake.export(kind)
    assert (done.rows, done.partitions, done.written, done.rows_written) == (3, 2, 2, 3)
    for name, reader in READERS.items():
        found = sorted(reader(kind, done.where).to_pylist(), key=lambda row: row["ride_id"])
        assert found == ROWS, name
    kinds = {field.name: field.type for field in by_pyarrow(kind, done.where).schema}
    assert (kinds["fare"], kinds["rate"]) == (pa.decimal128(10, 2), pa.decimal128(38, 18))
    assert kinds["ended_at"].tz == "UTC"
    assert kinds["began"].tz is None


@pytest.mark.parametrize("kind", FORMATS)
def test_later_exports_write_what_changed_and_nothing_else(lake: Lake, kind: str) -> None:
    where = lake.export(kind).where
    first = lake.files()
    assert lake.export(kind).written == 0
    lake.publish()
    assert (lake.export(kind).written, lake.files()) == (0, first)
    number = lake.publish(*CHANGED)
    done = lake.export(kind)
    assert (done.publish_id, done.written, done.rows_written, done.removed) == (number, 1, 2, 0)
    kept = [name for name in first if "day_month=2026-01-01" in name]
    assert kept
    assert {name: lake.files()[name] for name in kept} == {name: first[name] for name in kept}
    assert {name: rides(read(kind, where)) for name, read in READERS.items()} == dict.fromkeys(READERS, LATER)
    lake.publish("delete from marts.rides where day < '2026-02-01'", "insert into marts.rides (ride_id) values (5)")
    done = lake.export(kind)
    assert (done.written, done.removed, done.rows) == (1, 1, 3)
    expected = [(3, Decimal("7.00")), (4, Decimal("1.00")), (5, None)]
    assert {name: rides(read(kind, where)) for name, read in READERS.items()} == dict.fromkeys(READERS, expected)


@pytest.mark.parametrize("kind", FORMATS)
def test_columns_come_go_and_widen_and_what_cannot_be_is_refused(lake: Lake, kind: str) -> None:
    where = lake.export(kind).where
    lake.publish(
        "alter table marts.rides add tip numeric(6, 2), drop photo, alter ride_id type bigint",
        "alter table marts.rides alter fare type numeric(14, 2)",
        "update marts.rides set tip = 2, ride_id = ride_id + 5000000000, fare = fare * 1000",
    )
    assert lake.export(kind).written == 2
    expected = [
        (5000000001, Decimal("10250.00"), Decimal("2.00")),
        (5000000002, Decimal("99999999990.00"), Decimal("2.00")),
        (5000000003, Decimal("10.00"), Decimal("2.00")),
    ]
    for name, read in READERS.items():
        found = read(kind, where)
        assert "photo" not in found.schema.names, name
        assert rides(found, "ride_id", "fare", "tip") == expected, name
    before = lake.files()
    lake.publish("alter table marts.rides alter ride_id type integer using 1")
    with pytest.raises(GranaryError, match=r"ride_id was int64 and is int32 now, .* export to another place"):
        lake.export(kind)
    assert lake.files() == before
    shutil.rmtree(where)
    assert lake.export(kind).rows == 3


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_that_is_killed_leaves_the_former_state_or_the_next_one(lake: Lake, kind: str) -> None:
    where = lake.export(kind).where
    lake.publish(*CHANGED)
    for point, expected in (
        ("lake-file-written", BASE),
        ("lake-before-commit", BASE),
        ("lake-committed", LATER),
        ("lake-before-ledger", LATER),
    ):
        assert killed_at(point, lake.settings, Wanted("rides", str(lake.folder), kind)) == -signal.SIGKILL, point
        assert {name: rides(read(kind, where)) for name, read in READERS.items()} == dict.fromkeys(READERS, expected)
    assert lake.export(kind).rows == 4
    assert {name: rides(read(kind, where)) for name, read in READERS.items()} == dict.fromkeys(READERS, LATER)
    assert lake.export(kind).written == 0


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_personal_is_masked_and_goes_for_good(lake: Lake, kind: str) -> None:
    where = lake.export(kind, "riders").where
    assert by_pyarrow(kind, where).column("name").to_pylist() == ["masked"]
    assert lake.export(kind, "riders", role="analyst_pii").written == 1
    assert by_pyarrow(kind, where).column("name").to_pylist() == ["Ada"]
    lake.run("insert into ops.erasures (subject, key_mark, finished_at) values ('hash', 'mark', clock_timestamp())")
    lake.publish("update personal.riders set name = 'Bob'")
    assert [one.stale for one in exports(lake.settings)] == [True]
    (one,) = exports(lake.settings)
    assert again(lake.settings, one, purge=True).rows == 1
    assert [one.stale for one in exports(lake.settings)] == [False]
    assert [read(kind, where).column("name").to_pylist() for read in READERS.values()] == [["Bob"]] * 3
    held = [path for path in lake.folder.rglob("*") if path.is_file()]
    assert not [path.name for path in held if b"Ada" in path.read_bytes()]
    assert lake.export(kind, "riders", role="analyst_pii").written == 0
    with pytest.raises(UsageError, match="name is masked"):
        lake.export(kind, "riders", role="analyst_pii", partition_by="name", place=str(lake.folder / "more"))


def test_a_table_that_somebody_else_changed_is_written_anew(lake: Lake) -> None:
    where = lake.export("delta").where
    DeltaTable(where).delete("ride_id = 1")
    assert lake.export("delta").written == 2
    assert rides(by_pyarrow("delta", where)) == BASE


def test_a_table_of_somebody_else_is_left_alone(lake: Lake) -> None:
    write_deltalake(str(lake.folder / "rides"), pa.table({"ride_id": [1]}))
    with pytest.raises(GranaryError, match="there is a table already, one that Granary did not make"):
        lake.export("delta")
    (lake.folder / "rides" / "_manifest.json").write_text("{}")
    with pytest.raises(GranaryError, match=r"_manifest\.json cannot be read"):
        lake.export("parquet")


@pytest.mark.parametrize("kind", FORMATS)
def test_an_empty_mart_and_one_without_partitions(lake: Lake, kind: str) -> None:
    lake.publish("create table marts.lines (number integer, note text)", "grant select on marts.lines to analyst")
    where = lake.export(kind, "lines").where
    lake.publish("insert into marts.lines values (1, 'a'), (2, null)")
    assert lake.export(kind, "lines").rows == 2
    assert lake.export(kind, "lines").written == 0
    lake.publish("delete from marts.lines where number = 1")
    lake.export(kind, "lines")
    for name, read in READERS.items():
        assert read(kind, where).to_pylist() == [{"number": 2, "note": None}], name
    with pytest.raises(GranaryError, match=r"the table there is not partitioned .*leave --partition-by as it was"):
        lake.export(kind, "lines", partition_by="number")


@pytest.mark.parametrize(
    ("column", "folder"),
    [("ride_id", "ride_id=2"), ("day:day", "day_day=2026-01-05"), ("day:year", "day_year=2026-01-01")],
)
def test_partitions(lake: Lake, column: str, folder: str) -> None:
    where = lake.export("parquet", partition_by=column).where
    assert [name for name in lake.files() if name.startswith(f"rides/{folder}/")]
    assert rides(by_pyarrow("parquet", where)) == BASE


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"kind": "csv"}, "there is no format 'csv'"),
        ({"role": "owner"}, "there is no role 'owner'"),
        ({"mart": "ride"}, r"there is no mart 'marts\.ride'.*did you mean marts\.rides"),
        ({"mart": "rides; drop"}, "is no name of a mart"),
        ({"mart": "personal.riders"}, "nothing was published there yet"),
        ({"partition_by": "no"}, "has no column 'no'"),
        ({"partition_by": "fare"}, "fare is numeric"),
        ({"partition_by": "day:week"}, "'week' is no unit"),
        ({"partition_by": "ride_id:month"}, "is no date or time"),
        ({"place": ""}, "a lake needs a place"),
        ({"place": "ftp://host/x"}, "a lake cannot be at 'ftp://host/x'"),
        ({"place": "s3://u:hidden@bucket/x"}, "the address holds credentials"),
        ({"place": "s3://bucket/x?acl=public"}, "there is no option 'acl' of S3"),
        ({"place": "iceberg+http://host/x"}, "an Iceberg catalogue holds no parquet"),
        ({"place": "s3://bucket:port/x"}, "that is no address"),
    ],
)
def test_what_is_wrong_is_said(lake: Lake, more: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        lake.export(more.pop("kind", "parquet"), more.pop("mart", "rides"), **more)
    assert "hidden" not in str(error.value)
    assert not lake.folder.exists()


def test_values_that_a_lake_cannot_hold(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("'NaN'", "0.0000000000000000001"):
        lake.publish(f"update marts.rides set rate = {value} where ride_id = 1")
        with pytest.raises(GranaryError, match=r"marts\.rides, column rate\); say its digits in the model"):
            lake.export("parquet")
    lake.publish("update marts.rides set rate = 1, day = 'infinity' where ride_id = 1")
    with pytest.raises(GranaryError, match="the partition infinity has 1 row, and 0 were read"):
        lake.export("parquet")
    assert not [name for name in lake.files() if "_manifest" in name]
    lake.publish("alter table marts.rides add span interval")
    with pytest.raises(GranaryError, match=r"a lake has no type for .*span.*cast the column"):
        lake.export("parquet")
    monkeypatch.setenv("GRANARY_LAKE_KEY", "key")
    with pytest.raises(GranaryError, match="GRANARY_LAKE_SECRET is not set"):
        lake.export("parquet", place="s3://bucket/x")


def test_without_its_packages_it_says_what_to_install(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> Any:
        raise ImportError

    monkeypatch.setattr(place, "import_module", missing)
    with pytest.raises(GranaryError, match=r"deltalake is not installed; .*pip install 'granary-elt\[lake\]'"):
        lake.export("delta")


def test_the_command(lake: Lake) -> None:
    done = granary(lake.settings, "export", "rides", "--to", str(lake.folder), "--partition-by", "day")
    assert "3 rows. Written: 2 of 2 partitions, 3 rows; removed: 0." in done.stdout, done.stderr
    again = granary(lake.settings, "export", "--all", "--json")
    assert [(one["mart"], one["written"]) for one in json.loads(again.stdout)] == [("marts.rides", 0)]
    listed = json.loads(granary(lake.settings, "export", "--json").stdout)
    assert [(one["format"], one["partition_by"], one["rows"], one["stale"]) for one in listed] == [
        ("iceberg", "day", 3, False)
    ]
    assert granary(lake.settings, "export", "rides").returncode == 2
    hint = (lake.folder / "rides" / "metadata" / "version-hint.text").read_text()
    assert hint == "1"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.usefixtures("keys")
def test_a_bucket(lake: Lake, store: Store, kind: str) -> None:
    place = f"s3://lake/{lake.settings.database}?endpoint_url={store.endpoint}"
    done = lake.export(kind, place=place)
    lake.publish(*CHANGED)
    assert lake.export(kind, place=place, purge=True).written == 1
    with store.duckdb() as connection:
        if kind == "parquet":
            listed = f"from (select unnest(files) as file from read_json('{done.where}/_manifest.json'))"
            connection.execute(f"set variable files = (select list('{done.where}/' || file.path) {listed})")
            found = connection.sql("select ride_id, fare from read_parquet(getvariable('files'))")
        else:
            found = connection.sql(f"select ride_id, fare from {kind}_scan('{done.where}')")
        assert sorted(found.fetchall()) == LATER
    assert lake.export(kind, place=place).written == 0


@pytest.mark.usefixtures("keys")
def test_a_catalogue(lake: Lake, store: Store) -> None:
    namespace = lake.settings.database
    place = (
        f"iceberg+http://127.0.0.1:{store.catalogue_port}?warehouse=s3://tables&namespace={namespace}"
        f"&endpoint_url={store.endpoint}"
    )
    lake.export("iceberg", place=place)
    lake.publish(*CHANGED, "alter table marts.rides add tip numeric(6, 2)")
    assert lake.export("iceberg", place=place, purge=True).written == 2
    with store.duckdb() as connection:
        address = f"http://127.0.0.1:{store.catalogue_port}"
        connection.execute(
            "create secret catalogue (type iceberg, client_id 'granary-key', client_secret 'granary-secret',"
            f" oauth2_server_uri '{address}/v1/oauth/tokens')"
        )
        connection.execute(f"attach 's3://tables' as tables (type iceberg, endpoint '{address}', secret catalogue)")
        found = connection.sql(f"select ride_id, fare, tip from tables.{namespace}.rides")
        assert sorted(found.fetchall()) == [(*row, None) for row in LATER]
    assert lake.export("iceberg", place=place).written == 0


def test_earlier_versions_stay_readable(lake: Lake) -> None:
    where = lake.export("iceberg").where
    lake.publish(*CHANGED)
    lake.export("iceberg")
    table = StaticTable.from_metadata(where)
    first = table.metadata.snapshots[0]
    assert first.summary is not None
    assert first.summary["granary.publish-id"] == "1"
    assert rides(table.scan(snapshot_id=first.snapshot_id).to_arrow()) == BASE
    delta = lake.export("delta").where
    lake.publish("delete from marts.rides where ride_id = 4")
    lake.export("delta")
    assert rides(DeltaTable(delta, version=0).to_pyarrow_table()) == LATER
