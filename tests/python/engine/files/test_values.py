"""Values at the ends of their types: each lands as it was sent, or its row is refused."""

from __future__ import annotations

import io
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from granary.load.types import cast
from granary.readers.files import Csv, Xml
from granary.sources.spec import Column
from tests.python.engine.files.conftest import label, table

if TYPE_CHECKING:
    from tests.python.engine.files.conftest import Zone

ID = Column("id", pa.int64(), "Number.", nullable=False)


def at(*parts: int) -> datetime:
    """Return a local time."""
    return datetime(*parts)  # type: ignore[arg-type, misc]  # noqa: DTZ001


def parquet(columns: dict[str, pa.Array], **options: Any) -> bytes:
    """Return a Parquet file with a column `id` that counts from 1."""
    out = io.BytesIO()
    length = len(next(iter(columns.values())))
    pq.write_table(pa.table({"id": pa.array(range(1, length + 1))} | columns), out, **options)
    return out.getvalue()


def array(kind: pa.DataType, *numbers: int | None) -> pa.Array:
    """Return a column of dates or times from the numbers that they are kept as."""
    return pa.array(numbers, pa.int64() if kind.bit_width == 64 else pa.int32()).view(kind)


@pytest.mark.parametrize("contract", [(ID, Column("t", pa.timestamp("us"), "Time.")), (ID,)], ids=["named", "new"])
def test_int96_timestamps_keep_their_year(zone: Zone, contract: tuple[Column, ...]) -> None:
    moments = [at(9999, 12, 31), at(1, 1, 1), at(2017, 1, 2, 3, 4, 5, 678901), None]
    content = parquet({"t": pa.array(moments, pa.timestamp("us"))}, use_deprecated_int96_timestamps=True)
    zone.put("people.parquet", content)
    assert zone.load(table(columns=contract)).rows_loaded == 4
    assert zone.rows("t") == [(moment,) for moment in moments]


FAR = 10**15
"""Seconds from 1970: the year 31690708. Nanoseconds: 1970-01-12; microseconds: 2001."""


@pytest.mark.parametrize(
    ("values", "expected", "shown"),
    [
        (array(pa.timestamp("s"), FAR, 1), [(2, at(1970, 1, 1, 0, 0, 1))], f"{FAR} milliseconds from 1970"),
        (array(pa.timestamp("ms"), FAR * 1000, 1), [(2, at(1970, 1, 1, 0, 0, 0, 1000))], None),
        (array(pa.timestamp("us"), 253_402_300_800_000_000, 1), [(2, at(1970, 1, 1, 0, 0, 0, 1))], None),
        (array(pa.timestamp("us"), -62_135_596_800_000_001, 1), [(2, at(1970, 1, 1, 0, 0, 0, 1))], None),
        (array(pa.timestamp("us"), 2**63 - 1, 1), [(2, at(1970, 1, 1, 0, 0, 0, 1))], None),
        (
            array(pa.timestamp("us", tz="America/New_York"), -(2**63) + 1, 0),
            [(2, datetime(1970, 1, 1, tzinfo=timezone.utc))],
            None,
        ),
        (array(pa.date32(), 2_932_897, 0), [(2, date(1970, 1, 1))], None),  # 10000-01-01
        (array(pa.date32(), -2_440_588, 0), [(2, date(1970, 1, 1))], None),  # Postgres' first day, 4714 BC
        (array(pa.date32(), 2**31 - 1, 0), [(2, date(1970, 1, 1))], f"{2**31 - 1} days from 1970"),
    ],
    ids=label,
)
@pytest.mark.parametrize("named", [True, False])
def test_a_moment_outside_of_the_calendar_refuses_its_row(
    zone: Zone, values: pa.Array, expected: list[Any], shown: str | None, named: bool
) -> None:
    kind = pa.date32() if pa.types.is_date(values.type) else pa.timestamp("us", tz="UTC" if values.type.tz else None)
    zone.put("people.parquet", parquet({"t": values}))
    result = zone.load(table(columns=(ID, Column("t", kind, "Time.")) if named else (ID,)))
    assert (result.rows_read, result.rows_loaded, result.rows_quarantined) == (2, 1, 1)
    assert zone.rows("id, t") == expected
    [(row, _, column, _, payload)] = zone.refused()
    assert (row, column) == (1, "t")
    if shown and values.type != pa.timestamp("s"):  # Parquet has no seconds
        assert shown in payload


def test_parts_of_a_microsecond_are_cut_off_towards_the_past_and_that_is_told(zone: Zone) -> None:
    zone.put("people_1.parquet", parquet({"t": array(pa.timestamp("ns"), 1_000, None)}))
    assert [change.change for change in zone.load(table(columns=(ID,))).changes] == ["added"]
    zone.put("people_2.parquet", parquet({"t": array(pa.timestamp("ns"), 1_999, -1)}))
    told = [(change.column, change.change, change.detail) for change in zone.load(table(columns=(ID,))).changes]
    assert told == [("t", "narrowed", "nanoseconds came: parts of a microsecond are cut off")]
    moments = [at(1970, 1, 1, 0, 0, 0, 1), None, at(1970, 1, 1, 0, 0, 0, 1), at(1969, 12, 31, 23, 59, 59, 999999)]
    assert zone.rows("t") == [(moment,) for moment in moments]


def test_durations_and_times_of_day_land_as_text_with_their_units(zone: Zone) -> None:
    columns = {
        "took": array(pa.duration("us"), 86_403_000_000, -1_500_000, 0, None),
        "waited": array(pa.duration("ns"), 1, 3_600_000_000_000, 59_999_000_000, None),
        "opens": array(pa.time32("ms"), 3_661_000, 0, 86_399_999, None),
        "closes": array(pa.time64("ns"), 3_661_000_000_001, 0, 1, None),
    }
    zone.put("people.parquet", parquet(columns))
    columns_too = (ID, Column("took", pa.string(), "A generated contract says text."))
    for contract in ((ID,), columns_too):
        zone.put("people.parquet", parquet(columns), age=100 + len(contract))
        zone.load(table(columns=contract))
        assert zone.rows("took, waited, opens, closes") == [
            ("PT24H3S", "PT0.000000001S", "01:01:01.000", "01:01:01.000000001"),
            ("PT-1.5S", "PT1H", "00:00:00.000", "00:00:00.000000000"),
            ("PT0S", "PT59.999S", "23:59:59.999", "00:00:00.000000001"),
            (None, None, None, None),
        ]
    assert zone.rows("extract(epoch from took::interval)::float, opens::time > '01:00'") == [
        (86403.0, True),
        (-1.5, False),
        (0.0, True),
        (None, None),
    ]


def test_intervals_are_text_that_postgres_reads(zone: Zone) -> None:
    values = pa.array([(14, -3, 1_500_000_000), (0, 0, 0), None], pa.month_day_nano_interval())
    texts, misfits = cast(values, pa.string())
    assert (texts.to_pylist(), misfits) == (["P14M-3DT1.5S", "PT0S", None], None)
    assert zone.query("select 'P14M-3DT1.5S'::interval = '1 year 2 months -3 days 1.5 seconds'") == [(True,)]


def test_numbers_keep_their_digits(zone: Zone) -> None:
    wide = Decimal("-123456789012345678901234567890123456789012345.67")
    columns = {
        "huge": pa.array([wide, Decimal("0.01"), None], pa.decimal256(50, 2)),
        "small": pa.array([Decimal("1.25"), Decimal("-0.01"), None], pa.decimal128(5, 2)).cast(pa.decimal32(5, 2)),
        "most": pa.array([2**64 - 1, 0, None], pa.uint64()),
        "half": pa.array([np.float16(1.5), np.float16(-0.25), None], pa.float16()),
        "word": pa.array(["a", "b", None]).dictionary_encode(),
        "long": pa.array(["a", "b", None], pa.large_string()),
        "view": pa.array(["a", "b", None], pa.string_view()),
        "code": pa.array([b"ab", b"cd", None], pa.binary(2)),
    }
    zone.put("people.parquet", parquet(columns))
    zone.load(table(columns=(ID,)))
    names = ", ".join(columns)
    first, second, third = zone.rows(names)
    assert first == (wide, Decimal("1.25"), Decimal(2**64 - 1), 1.5, "a", "a", "a", b"ab")
    assert second[:4] == (Decimal("0.01"), Decimal("-0.01"), Decimal(0), -0.25)
    assert third == (None,) * 8
    types = zone.query(
        "select column_name, data_type, numeric_precision from information_schema.columns where table_schema = $1"
        " and column_name in ('huge', 'small', 'most') order by 1",
        f"raw_{zone.name}",
    )
    assert types == [("huge", "numeric", 50), ("most", "numeric", 20), ("small", "numeric", 5)]


def test_uuids_are_text(zone: Zone) -> None:
    number = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    values = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([number.bytes, None], pa.binary(16)))
    zone.put("people.parquet", parquet({"u": values}))
    zone.load(table(columns=(ID,)))
    assert zone.rows("u") == [(str(number),), (None,)]


@pytest.mark.parametrize(
    ("values", "wanted", "expected"),
    [
        (pa.array([0.1, 1e300, 0.1234567890123]), pa.float32(), [0.1, None, None]),
        (pa.array([3.99, 0.125, float("nan"), 1e22]), pa.decimal128(30, 2), ["3.99", None, None, "1E22"]),
        (pa.array([2**53, 2**53 + 1]), pa.float64(), [2.0**53, None]),
        (pa.array([2**63 - 1, 2**64 - 1], pa.uint64()), pa.int64(), [2**63 - 1, None]),
        (pa.array(["0.10", "123456789012345678.91"]).cast(pa.decimal128(20, 2)), pa.float64(), [0.1, None]),
        (pa.array([1.5, 2.0], pa.float16()), pa.int32(), [None, 2]),
        (pa.array([1.5, 2.0], pa.float16()), pa.decimal128(4, 1), ["1.5", "2"]),
        (pa.array(["7"]).cast(pa.decimal256(60, 0)), pa.int32(), [7]),
        (pa.array(["1e40", "7"]).cast(pa.decimal256(60, 0)), pa.decimal128(20, 0), [None, "7"]),
    ],
    ids=label,
)
def test_a_number_that_would_lose_digits_refuses_its_row(
    zone: Zone, values: pa.Array, wanted: pa.DataType, expected: list[Any]
) -> None:
    zone.put("people.parquet", parquet({"n": values}))
    columns = (ID, Column("n", wanted, "A number."))
    result = zone.load(table(columns=columns, max_refused=1))
    assert zone.rows("n") == [(Decimal(n) if isinstance(n, str) else n,) for n in expected if n is not None]
    assert result.rows_quarantined == expected.count(None)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0x1F", pa.int64()), ("0X1f", pa.int32()), ("1e400", pa.float64()), ("-1e400", pa.float64()),
        ("1e-400", pa.float64()), ("1e39", pa.float32()), ("1e-60", pa.float32()), ("nan(5)", pa.float64()),
        ("1,2,3", pa.decimal128(18, 2)), ("1,234", pa.float64()), ("1.239", pa.decimal128(18, 2)),
        ("0000-01-01", pa.date32()), ("0000-01-01 00:00:00", pa.timestamp("us")), ("2023-02-29", pa.date32()),
        ("2023-02-01 24:00:00", pa.timestamp("us")), ("2023-02-01 23:59:60", pa.timestamp("us")),
        ("2023-02-01T10:00:00Z trailing", pa.timestamp("us", tz="UTC")),
        ("2023-02-01 10:00", pa.timestamp("us", "UTC")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["people.csv", "people.xml"])
def test_text_that_is_no_such_value_refuses_its_row(zone: Zone, text: str, wanted: pa.DataType, name: str) -> None:
    good = {"date": "2023-02-28", "time": "2023-02-28 23:59:59Z" if "tz=" in str(wanted) else "2023-02-28 23:59:59"}
    other = good.get(str(wanted)[:4], "7")
    rows = [(1, other), (2, text), (3, other)]
    csv = "id;v\n" + "".join(f"{number};{value}\n" for number, value in rows)
    xml = "<r>" + "".join(f'<p id="{number}"><v>{value}</v></p>' for number, value in rows) + "</r>"
    zone.put(name, csv if name.endswith("csv") else xml)
    form = Csv(delimiter=";") if name.endswith("csv") else Xml(row="p")
    zone.load(table(columns=(ID, Column("v", wanted, "A value."))), format=form)
    assert zone.rows("id") == [(1,), (3,)]
    assert [(row, column) for row, _, column, _, _ in zone.refused()] == [(2, "v")]


def test_what_is_not_finite_arrives_as_it_was_sent(zone: Zone) -> None:
    zone.put("people_1.csv", "id,score\n1,nan\n2,-inf\n3,Infinity\n4,0.0\n")
    zone.put("people_2.parquet", parquet({"score": pa.array([float("nan"), float("-inf"), float("inf"), 0.0])}))
    zone.load(table(columns=(ID, Column("score", pa.float64(), "Points.", finite=False))))
    found = [(str(value),) for (value,) in zone.rows("score")]
    assert found == [("nan",), ("-inf",), ("inf",), ("0.0",)] * 2


def test_bytes_that_are_no_text_refuse_their_row(zone: Zone) -> None:
    raw = pa.array([b"Ada", b"Zo\xeb", None], pa.binary())
    names = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    zone.put("people.parquet", parquet({"name": names}))
    zone.load(table(columns=(ID, Column("name", pa.string(), "Name."))))
    assert zone.rows("id, name") == [(1, "Ada"), (3, None)]
    assert zone.refused() == [
        (2, None, "name", "is not text: its bytes are no UTF-8", '{"id": 2, "name": "Zo\\\\xeb"}')
    ]


def test_a_nested_date_that_no_calendar_has_refuses_its_row(zone: Zone) -> None:
    days = pa.ListArray.from_arrays([0, 1, 2], array(pa.date32(), 0, 2**31 - 1))
    zone.put("people.parquet", parquet({"days": days}))
    zone.load(table(columns=(ID,)))
    assert zone.rows("id, days") == [(1, '["1970-01-01"]')]
    assert [(row, column) for row, _, column, _, _ in zone.refused()] == [(2, "days")]


def test_nested_values_are_json_or_refuse_their_row(zone: Zone) -> None:
    kind = pa.struct([("at", pa.timestamp("ns")), ("took", pa.duration("ns")), ("n", pa.float64()), ("s", pa.string())])
    values = [
        {"at": at(2017, 1, 2), "took": timedelta(hours=24, seconds=3), "n": 1.5, "s": "x"},
        {"n": float("nan")}, {"n": float("-inf")}, {"s": "a\0b"}, None, {"n": 0.0},
    ]  # fmt: skip
    zone.put("people.parquet", parquet({"doc": pa.array(values, kind)}))
    zone.load(table(columns=(ID,), max_refused=1))
    assert zone.rows("id, doc::jsonb->>'took', doc::jsonb->>'n', doc::jsonb->>'at'") == [
        (1, "PT24H3S", "1.5", "2017-01-02 00:00:00"),
        (5, None, None, None),
        (6, None, "0.0", None),
    ]
    assert [(row, column) for row, _, column, _, _ in zone.refused()] == [(2, "doc"), (3, "doc"), (4, "doc")]


def test_a_decimal_column_widens_to_the_digits_that_came(zone: Zone) -> None:
    contract = table(columns=(ID, Column("n", pa.decimal128(20, 2), "A number.")), retyped="widen")
    zone.put("people_1.parquet", parquet({"n": pa.array(["1.25"]).cast(pa.decimal128(20, 2))}))
    zone.load(contract)
    zone.put("people_2.parquet", parquet({"n": pa.array(["1e45"]).cast(pa.decimal256(50, 3))}))
    zone.load(contract)
    assert zone.rows("n") == [(Decimal("1.25"),), (Decimal("1e45"),)]


def test_the_year_zero_is_shown_as_it_was_written(zone: Zone) -> None:
    zone.put("people.csv", "id,t\n1,0000-01-01 00:00:00\n2,0001-01-01 00:00:00\n")
    zone.load(table(columns=(ID, Column("t", pa.timestamp("us"), "Time."))))
    assert zone.rows("id, t") == [(2, at(1, 1, 1))]
    assert '"0000-01-01 00:00:00"' in zone.refused()[0][4]


@pytest.mark.parametrize("zone_name", ["+02:00", "America/New_York", "UTC"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_instants_of_any_zone_land_in_utc(zone: Zone, zone_name: str, unit: str) -> None:
    parts = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[unit]
    zone.put("people.parquet", parquet({"t": array(pa.timestamp(unit, zone_name), -parts, 1_483_358_400 * parts)}))
    zone.load(table(columns=(ID,)))
    assert zone.rows("t at time zone 'UTC'") == [(at(1969, 12, 31, 23, 59, 59),), (at(2017, 1, 2, 12),)]
