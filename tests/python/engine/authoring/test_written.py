"""Dates, amounts, shares and times as people write them: what is found, and that staging reads exactly that."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import jinja2
import pyarrow as pa
import pytest

from granary.profiling.written import Kind, Written, _ways, written
from granary.warehouse.connection import connect, query
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings


def of(values: list[str], *prefer: str) -> Written | None:
    return written(pa.chunked_array([pa.array(values, pa.string())]), prefer)


@pytest.mark.parametrize(
    ("values", "kind", "style", "share"),
    [
        (["31/12/2023", "01/02/2023", ""], "date", "dmy", 1.0),
        (["12/31/2023", "1/2/2023"], "date", "mdy", 1.0),
        (["31.12.2023"], "date", "dmy", 1.0),
        (["2023/01/15"], "date", "ymd", 1.0),
        (["15-Jan-2023", "1 March 2024"], "date", "dMy", 1.0),
        (["Jan 15, 2023"], "date", "Mdy", 1.0),
        (["31/12/2023 14:30", "01/02/2023 9:05"], "timestamp", "dmy", 1.0),
        (["13/02/2023"] * 9 + ["soon"], "date", "dmy", 0.9),
        (["$1,000.50", "$5.00"], "number", ".", 1.0),
        (["1,234", "1,234,567"], "number", ".", 1.0),
        (["1.234,50", "3,25"], "number", ",", 1.0),
        (["(5.00)", "-$3.10"], "number", ".", 1.0),
        (["1 234", "5"], "number", ".", 1.0),
        (["5%", "7.5 %"], "percent", ".", 1.0),
        (["yes", "No"], "boolean", "yes/no", 1.0),
        (["Y", "N", "N"], "boolean", "y/n", 1.0),
        (["09:30", "23:59:59"], "time", "", 1.0),
        (["9:30 AM", "11:05 pm"], "time", "", 1.0),
        (["1.5"] * 9 + ["abc"], "number", ".", 0.9),
    ],
)
def test_what_is_written(values: list[str], kind: str, style: str, share: float) -> None:
    found = of(values)
    assert found is not None
    assert (found.kind, found.style, found.share, found.unsure, found.torn) == (kind, style, share, False, False)


@pytest.mark.parametrize(
    "values",
    [
        ["31/02/2023"], ["00123", "124"], ["1.1", "1.10"], ["12E5"], ["25:30"], ["yes"], ["x", "y"], [], ["", ""],
        ["12345678901234567890"], ["13/02/2023", "soon"], ["+49 30 123"], ["10.0.0.1"],
    ],
)  # fmt: skip
def test_what_is_only_text(values: list[str]) -> None:
    assert of(values) is None


def test_what_does_not_tell_is_unsure_and_what_contradicts_is_torn() -> None:
    doubtful = of(["01/02/2023", "03/04/2023"])
    assert doubtful is not None
    assert doubtful.unsure
    told = of(["01/02/2023", "03/04/2023"], "mdy")
    assert told is not None
    assert (told.style, told.unsure) == ("mdy", False)
    both = of(["31/12/2023"] * 9 + ["12/31/2023"])
    assert both is not None
    assert both.torn
    thousands = of(["1,234", "567"])
    assert thousands is not None
    assert (thousands.style, thousands.unsure) == (".", True)


def test_dates_in_several_styles_are_torn() -> None:
    mixed = of(["2023-01-15", "31.12.2023", "2023-02-15", "30.11.2023", "15.01.2023"])
    assert mixed == Written("date", "dmy", 0.6, torn=True)
    numbers = of(["1.234,50", "1,234.50"])
    assert numbers == Written("number", ".", 0.5, torn=True)
    assert of(["2023-01-15", "31.12.2023", "soon", "later"]) is None


@pytest.mark.parametrize(
    ("values", "share", "cents"),
    [
        (["$1,234.50", "$12.00", "$7", "$1.000"], 0.75, True),
        (["1.234,50 EUR", "12,00 EUR", "1,000 EUR", "7"], 0.75, True),
        (["$1,234.50", "$12.00"], 1.0, True),
        (["$3.459", "$0.999", "$12.500"], 1.0, False),  # 0.999 is no thousand: such prices have three decimals
        (["$3.459", "$12.5000"], 1.0, False),
        (["$3.459", "$2.315", "$12.5"], 1.0, False),
        (["$7", "$8"], 1.0, False),
    ],
)
def test_what_may_be_a_thousand_is_not_read_where_numbers_have_cents(
    settings: Settings, values: list[str], share: float, cents: bool
) -> None:
    found = of(values)
    assert found is not None
    assert (found.share, found.cents) == (share, cents)
    with connect(settings) as connection:
        rows = query(
            connection, f"select v, {found.function}(v, '{found.style}') from unnest($1::text[]) as t (v)", values
        )
    assert [v for v, read in rows if read is None] == [v for v in values if v.strip("$ EUR") in ("1.000", "1,000")]


def sql(kind: Kind, column: str, *given: str) -> str:
    """Return the call of the function that reads a column so."""
    return f"ops.text_as_{kind}({', '.join((column, *(repr(word) for word in given)))})"


CASES: list[tuple[Kind, tuple[str, ...], str, Any]] = [
    ("date", ("dmy",), "31/12/2023", date(2023, 12, 31)),
    ("date", ("dmy",), " 1.2.2023 ", date(2023, 2, 1)),
    ("date", ("mdy",), "12/31/2023", date(2023, 12, 31)),
    ("date", ("ymd",), "2023/01/15", date(2023, 1, 15)),
    ("date", ("dMy",), "15-Jan-2023", date(2023, 1, 15)),
    ("date", ("Mdy",), "February 29, 2024", date(2024, 2, 29)),
    ("timestamp", ("dmy",), "31/12/2023 9:05 PM", datetime.fromisoformat("2023-12-31T21:05")),
    ("timestamp", ("dMy",), "15 Jan 2023 14:30:01", datetime.fromisoformat("2023-01-15T14:30:01")),
    ("time", (), "9:30 AM", time(9, 30)),
    ("time", (), "23:59", time(23, 59)),
    ("number", (".",), "$1,000.50", Decimal("1000.50")),
    ("number", (".",), "(1,234)", Decimal(-1234)),
    ("number", (".",), "-$3.10", Decimal("-3.10")),
    ("number", (",",), "1.234,50", Decimal("1234.50")),
    ("number", (",",), "3,25 EUR", Decimal("3.25")),
    ("number", (".",), "1'234.5", Decimal("1234.5")),
    ("percent", (".",), "-7.5 %", Decimal("-7.5")),
    ("boolean", ("yes", "no"), "YES", True),
    ("boolean", ("yes", "no"), "no", False),
]
WRONG = [
    "", " ", "31/02/2023", "0000/01/01", "32/01/2023", "01/13/2023 25:00", "1,23,4", "12E5", "$", "%", "-", "()",
    "24:00", "9:99", "15-Foo-2023", "00/00/0000", "x", "2023-02-30", "1.2.3", "13:00 PM", "5,5,5%", "'", "99/99/9999",
]  # fmt: skip


def test_staging_reads_what_was_counted(settings: Settings) -> None:
    texts = [text for *_, text, _ in CASES] + WRONG
    array = pa.array([text.strip() for text in texts])
    counted = {
        (kind, style): [text for text, fits in zip(texts, mask.to_pylist(), strict=True) if fits]
        for kind, style, mask in _ways(array)
    }
    ways = {(kind, given) for kind, given, *_ in CASES} | {
        (kind, (style,) if style else ()) for kind, style in counted if kind != "boolean"
    }
    with connect(settings) as connection:
        for kind, given in sorted(ways):
            expression = sql(kind, "v", *given)
            rows = query(connection, f"select v, {expression} from unnest($1::text[]) as t (v)", texts)
            read = {str(text): value for text, value in rows if value is not None}
            if kind != "boolean":
                assert sorted(read) == sorted(counted[kind, given[0] if given else ""]), (kind, given)
            for _, _, text, expected in (case for case in CASES if case[:2] == (kind, given)):
                assert read[text] == expected


@pytest.mark.parametrize(("kind", "given"), sorted({(kind, given) for kind, given, *_ in CASES}))
def test_a_query_has_the_reading_in_itself(settings: Settings, kind: Kind, given: tuple[str, ...]) -> None:
    """No function is called per row, and macros of earlier projects say the same."""
    called = sql(kind, "written", *given)
    macros = jinja2.Environment().from_string((PROJECT / "granary/dbt_package/macros/written.sql").read_text()).module
    assert str(getattr(macros, f"text_as_{kind}")("written", *given)).strip() == called
    with connect(settings) as connection:
        plan = query(connection, f"explain verbose select {called} from unnest(array['']) as t (written)")
    assert "ops." not in "".join(line for (line,) in plan)
