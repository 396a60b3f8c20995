"""Numbers, dates and times that are written in a way of their own: read so, or their row is refused."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.load import api as load_module
from granary.quarantine import replay
from granary.readers.files import Csv, FixedWidth
from granary.readers.files.notation import AS_WRITTEN, MAYBE_THOUSANDS
from granary.sources.spec import Column
from granary.warehouse.connection import connect, execute
from tests.python.engine.files.conftest import table

if TYPE_CHECKING:
    from tests.python.engine.files.conftest import Zone

ID = Column("id", pa.int64(), "Number.", nullable=False)
COMMA = Csv(delimiter=";", decimal=",")
GERMAN = Csv(delimiter=";", decimal=",", thousands=".")
ENGLISH = Csv(delimiter=";", thousands=",")
SWISS = Csv(delimiter=";", thousands="'")
SPACED = Csv(delimiter=";", decimal=",", thousands="\u00a0")
MONEY = pa.decimal128(18, 4)


def load(zone: Zone, kind: pa.DataType, options: Any, *texts: str) -> tuple[list[Any], list[Any]]:
    """Load a file with a column `v`; return the values that landed, by id, and the ids of the rows that did not."""
    if isinstance(options, FixedWidth):
        zone.put("people.dat", "".join(f"{number:<3}{text:<30}\n" for number, text in enumerate(texts, 1)))
    else:
        zone.put("people.csv", "id;v\n" + "".join(f"{number};{text}\n" for number, text in enumerate(texts, 1)))
    columns = (ID, Column("v", kind, "A value."))
    zone.load(table(columns=columns, max_refused=1), options={"people": options})
    assert all(column == "v" for _, _, column, _, _ in zone.refused())
    return zone.rows("id, v"), [row for row, *_ in zone.refused()]


@pytest.mark.parametrize(
    ("kind", "options", "right", "wrong"),
    [
        (MONEY, COMMA, {"1,5": "1.5", "-0,25": "-0.25", "1234": "1234", ",5": "0.5"}, ["1.234", "1.234,5", "1,2,3"]),
        (MONEY, GERMAN, {"1.234": "1234", "-1.234.567,89": "-1234567.89", "1234,5": "1234.5"},
         ["12.34", "1.2.3", "1,2,3", "1.2345", "0.123", "1234.567", "1.234,567,8", ".123", "1..234"]),
        (MONEY, ENGLISH, {"1,234.5": "1234.5", "1.5": "1.5"}, ["1,23", "1,2,3", "1.234,5", "12,34,567"]),
        (MONEY, SWISS, {"1'234.50": "1234.5"}, ["1'23", "1,5"]),
        (MONEY, SPACED, {"1\u00a0234,5": "1234.5"}, ["1\u00a023", "1 234"]),
        (MONEY, Csv(delimiter=";"), {"1.5": "1.5"}, ["1,5", "1,234", "1,2,3", "1 234"]),
        (pa.float64(), COMMA, {"1,5": 1.5, "1e3": 1000.0}, ["1.234", "1,2,3"]),
        (pa.float64(), GERMAN, {"1.234": 1234.0, "1,5e-3": 0.0015}, ["1.23", "1.234e400"]),
        (pa.float32(), COMMA, {"1,5": 1.5}, ["1.234"]),
        (pa.int64(), COMMA, {"7": 7}, ["1.234", "1,5", "0x1F"]),
        (pa.int64(), GERMAN, {"1.234": 1234, "-1.234.567": -1234567}, ["1.23", "1,5", "1.234,0"]),
        (pa.decimal256(50, 2), GERMAN, {"1.234,5": "1234.5"}, ["12.34"]),
        (MONEY, FixedWidth((("id", 3), ("v", 30)), decimal=",", thousands="."), {"1.234,5": "1234.5"}, ["12.34"]),
        (MONEY, FixedWidth((("id", 3), ("v", 30))), {"1.5": "1.5"}, ["1,5", "1,2,3"]),
    ],
)  # fmt: skip
def test_numbers(zone: Zone, kind: pa.DataType, options: Any, right: dict[str, Any], wrong: list[str]) -> None:
    landed, refused = load(zone, kind, options, *right, *wrong)
    values = [Decimal(value) if isinstance(value, str) else value for value in right.values()]
    assert landed == list(enumerate(values, 1))
    assert refused == [len(right) + place for place in range(1, len(wrong) + 1)]


CENTS = pa.decimal128(18, 2)


@pytest.mark.parametrize(
    ("kind", "options", "right", "wrong"),
    [
        (CENTS, Csv(delimiter=";"),
         {"12.50": "12.5", "1000": "1000", "0.500": "0.5", "1234.500": "1234.5", "2.5000": "2.5"},
         ["1.000", "-12.500", "+999.120", '"1.000"', " 1.000 "]),
        (CENTS, COMMA, {"12,50": "12.5"}, ["1,000", "1,500"]),
        (CENTS, GERMAN, {"1.000,5": "1000.5"}, ["1,000"]),
        (pa.decimal128(18, 0), Csv(delimiter=";"), {"12.0": "12"}, ["1.000"]),
        (pa.decimal128(18, 3), Csv(delimiter=";"), {"1.000": "1", "12.500": "12.5"}, []),
        (CENTS, FixedWidth((("id", 3), ("v", 30))), {"12.50": "12.5"}, ["1.000"]),
    ],
)  # fmt: skip
def test_a_third_decimal_that_was_not_agreed_may_be_thousands(
    zone: Zone, kind: pa.DataType, options: Any, right: dict[str, str], wrong: list[str]
) -> None:
    landed, refused = load(zone, kind, options, *right, *wrong)
    assert landed == list(enumerate(map(Decimal, right.values()), 1))
    assert refused == [len(right) + place for place in range(1, len(wrong) + 1)]
    assert {reason for _, _, _, reason, _ in zone.refused()} <= {MAYBE_THOUSANDS}


def test_what_may_be_thousands_comes_back_once_it_is_given_or_three_decimals_are_agreed(zone: Zone) -> None:
    zone.put("people.csv", "id;v\n1;12.50\n2;1.000\n3;2.500\n")
    columns = (ID, Column("v", CENTS, "A value."))
    zone.load(table(columns=columns, max_refused=1), options={"people": Csv()})
    zone.patch.setattr("granary.quarantine.replay.SOURCES", load_module.SOURCES)
    first, second = replay.entries(zone.settings, tables=[(zone.name, "people")])
    [done] = replay.replay(zone.settings, [first], {})
    assert (done.landed, len(done.refused)) == ((), 1)
    [done] = replay.replay(zone.settings, [first], {"v": "1000"})
    assert zone.rows("id, v", "id") == [(1, Decimal("12.50")), (2, Decimal(1000))]
    with connect(zone.settings) as connection:
        execute(connection, f"alter table raw_{zone.name}.people alter v type numeric(18,3)")
    zone.load(table(columns=(ID, Column("v", pa.decimal128(18, 3), "A value."))), options={"people": Csv()})
    [done] = replay.replay(zone.settings, [second], {})
    assert (done.landed, zone.rows("v", "id")[-1]) == ((second.quarantine_id,), (Decimal("2.5"),))


LEAP = date(2024, 2, 29)
DAYS = ("%d.%m.%Y",)
TIMES = ("%d.%m.%Y %H:%M:%S",)
NO_DAY = [
    "31.02.2023",
    "29.02.2023",
    "31.04.2023",
    "00.01.2023",
    "01.13.2023",
    "01.02.2023x",
    "01.02.20233",
    "01.02.23",
]


def at(*parts: int) -> datetime:
    """Return a local time."""
    return datetime(*parts)  # type: ignore[arg-type, misc]  # noqa: DTZ001


@pytest.mark.parametrize(
    ("kind", "dates", "right", "wrong"),
    [
        (pa.date32(), DAYS, {"29.02.2024": LEAP, "1.2.2023": date(2023, 2, 1), "2023-02-01": date(2023, 2, 1)}, NO_DAY),
        (pa.timestamp("us"), DAYS, {"29.02.2024": at(2024, 2, 29), "1.2.2023": at(2023, 2, 1)}, NO_DAY),
        (pa.timestamp("us"), TIMES, {"01.02.2023 23:59:59": at(2023, 2, 1, 23, 59, 59)},
         ["01.02.2023 23:59:60", "01.02.2023 24:00:00", "31.02.2023 10:00:00", "01.02.2023 10:60:00", "01.02.2023"]),
        (pa.date32(), TIMES, {"01.02.2023 00:00:00": date(2023, 2, 1)}, ["01.02.2023 00:00:01", "31.02.2023 00:00:00"]),
        # POSIX: two digits of a year are 1969 to 2068
        (pa.date32(), ("%d.%m.%y",), {"01.02.68": date(2068, 2, 1), "01.02.69": date(1969, 2, 1)},
         ["30.02.24", "01.02.2024"]),
        (pa.date32(), ("%Y%m%d",), {"20240229": LEAP}, ["20230229", "2024022", "202422", "2024-02-29", "202402291"]),
        (pa.date32(), ("%Y-%d-%m",), {"2024-29-02": LEAP, "2023-01-02": date(2023, 2, 1)}, ["2023-01-31"]),
        (pa.date32(), ("%d %b %Y", "%b %d, %Y"), {"29 Feb 2024": LEAP, "feb 29, 2024": LEAP},
         ["30 Feb 2024", "1 Fev 2024"]),
        (pa.timestamp("us"), ("%d.%m.%Y %I:%M %p",), {"01.02.2023 12:30 AM": at(2023, 2, 1, 0, 30)},
         ["01.02.2023 13:30 PM"]),
        (pa.timestamp("us"), ("%d.%m.%Y %H:%M:%S.%f",), {"01.02.2023 10:00:00.25": at(2023, 2, 1, 10, 0, 0, 250000)},
         ["01.02.2023 10:00:00.1234567"]),
        (pa.timestamp("us", "UTC"), ("%d.%m.%Y %H:%M %z",),
         {"01.02.2023 10:00 +0200": datetime(2023, 2, 1, 8, tzinfo=timezone.utc)},
         ["01.02.2023 10:00", "31.02.2023 10:00 +0200"]),
        (pa.timestamp("us", "UTC"), TIMES, {"2023-02-01 10:00:00Z": datetime(2023, 2, 1, 10, tzinfo=timezone.utc)},
         ["01.02.2023 10:00:00"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", [Csv, FixedWidth])
def test_dates_and_times(
    zone: Zone, form: Any, kind: pa.DataType, dates: tuple[str, ...], right: dict[str, Any], wrong: list[str]
) -> None:
    options = Csv(delimiter=";", dates=dates) if form is Csv else FixedWidth((("id", 3), ("v", 30)), dates=dates)
    landed, refused = load(zone, kind, options, *right, *wrong)
    assert landed == list(enumerate(right.values(), 1))
    assert refused == [len(right) + place for place in range(1, len(wrong) + 1)]


def test_refused_rows_keep_their_place_line_and_value(zone: Zone) -> None:
    content = 'id;name;born;score\n1;"a\nb";01.02.2023;1,5\n\n2;c;31.02.2023;1.234\n3;d\nx;e;01.02.2023;2,5\n4;f;;3,5\n'
    zone.put("people.csv", content)
    zone.load(table(max_refused=1), options={"people": Csv(delimiter=";", decimal=",", dates=DAYS)})
    assert zone.rows() == [(1, "a\nb", "2023-02-01", 1.5), (4, "f", None, 3.5)]
    assert zone.refused() == [
        (2, 5, "born", f"is not a valid date32[day] {AS_WRITTEN}",
         '{"id": 2, "born": "31.02.2023", "name": "c", "score": "1.234"}'),
        (3, 6, "", "has 2 fields, not 4", '{"line": "3;d"}'),
        (4, 7, "id", f"is not a valid int64 {AS_WRITTEN}",
         '{"id": "x", "born": "2023-02-01", "name": "e", "score": 2.5}'),
    ]  # fmt: skip


def test_a_value_in_a_foreign_notation_comes_back_only_if_it_is_given(zone: Zone) -> None:
    zone.put("people.csv", "id;score\n1;1.234\n")
    columns = (ID, Column("score", pa.float64(), "Points."))
    zone.load(table(columns=columns, max_refused=1), options={"people": COMMA})
    zone.patch.setattr("granary.quarantine.replay.SOURCES", load_module.SOURCES)
    [entry] = replay.entries(zone.settings, tables=[(zone.name, "people")])
    [done] = replay.replay(zone.settings, [entry], {})
    assert (done.landed, len(done.refused), zone.rows("id, score")) == ((), 1, [])
    [done] = replay.replay(zone.settings, [entry], {"score": "1234"})
    assert (done.landed, zone.rows("id, score")) == ((entry.quarantine_id,), [(1, 1234.0)])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"dates": ("%d.%m",)}, "has no year"),
        ({"dates": ("%-d.%m.%Y",)}, "is not a pattern"),
        ({"dates": ("%d.%m.%Y %I:%M",)}, "but one of %I"),
        ({"dates": ("%d.%m.%Y %H:%M %p",)}, "but one of %I"),
        ({"dates": ("%d.%m.%Y %Z",)}, "tells no offset"),
        ({"dates": ("%Y week %U",)}, "read as something else"),
        ({"decimal": ",", "thousands": ","}, "cannot stand"),
        ({"thousands": "00"}, "one character"),
        ({"decimal": ""}, "one character"),
    ],
)
def test_a_notation_that_cannot_be_read_is_refused_when_it_is_declared(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Csv(**options)
    with pytest.raises(ValueError, match=problem):
        FixedWidth((("id", 3),), **options)
