"""Every type of MySQL with its extremes: the same from the copy and from the log, and what they are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.cdc.capture import opened
from granary.sources.spec import Column
from tests.python.support.binlog_shop import ARTICLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings
    from tests.python.support.binlog_shop import BinlogShop

    Rows = Callable[..., list[tuple[Any, ...]]]


KINDS = {
    "t": ("tinyint", "-128", "127"),
    "tu": ("tinyint unsigned", "0", "255"),
    "s": ("smallint", "-32768", "32767"),
    "su": ("smallint unsigned", "0", "65535"),
    "m": ("mediumint", "-8388608", "8388607"),
    "mu": ("mediumint unsigned", "0", "16777215"),
    "i": ("int", "-2147483648", "2147483647"),
    "y": ("year", "0", "2155"),
    "iu": ("int unsigned", "0", "4294967295"),
    "b": ("bigint", "-9223372036854775808", "9223372036854775807"),
    "bu": ("bigint unsigned", "0", "18446744073709551615"),
    "flag": ("tinyint(1)", "0", "1"),
    "f": ("float", "-3.40282e38", "1.17549e-38"),
    "d": ("double", "-1.7976931348623157e308", "2.2250738585072014e-308"),
    "n": ("decimal(10,2)", "-99999999.99", "0.01"),
    "nn": ("decimal(65,30)", f"-{'9' * 35}.{'9' * 30}", f"0.{'0' * 29}1"),
    "nf": ("decimal(5,5)", "-0.99999", "0"),
    "nu": ("decimal(9,0) unsigned", "0", "999999999"),
    "b1": ("bit(1)", "0", "1"),
    "b9": ("bit(9)", "0", "257"),
    "b64": ("bit(64)", "0", "18446744073709551615"),
    "day": ("date", "'0000-00-00'", "'9999-12-31'"),
    "part": ("date", "'2017-02-00'", "'0001-01-01'"),
    "wall": ("datetime", "'0000-00-00 00:00:00'", "'9999-12-31 23:59:59'"),
    "wall3": ("datetime(3)", "'1000-01-01 00:00:00.001'", "'2024-02-29 12:30:00.5'"),
    "wall6": ("datetime(6)", "'1000-01-01 00:00:00.000001'", "'9999-12-31 23:59:59.999999'"),
    "at": ("timestamp null", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'"),
    "at0": ("timestamp null", "'0000-00-00 00:00:00'", "'2024-02-29 23:59:59'"),
    "at5": ("timestamp(5) null", "'1970-01-01 00:00:01.00001'", "'2038-01-19 03:14:07.99999'"),
    "took": ("time", "'-838:59:59'", "'838:59:59'"),
    "took6": ("time(6)", "'-00:00:00.000001'", "'838:59:58.999999'"),
    "took1": ("time(1)", "'-30:05:00.5'", "'01:02:03.9'"),
    "g": ("geometry", "st_geomfromtext('point(1 2)')", "st_geomfromtext('linestring(0 0, 1 1)', 4326)"),
    "c": ("char(5)", "''", "'a b'"),
    "v": ("varchar(300)", "''", "repeat('ä', 300)"),
    "l": ("varchar(20) character set latin1", "'€ß'", "'plain'"),
    "l2": ("text character set latin1", "unhex('818d8f909d41')", "'ÿ'"),
    "u2": ("varchar(20) character set ucs2", "'漢'", "'z'"),
    "sj": ("varchar(20) character set sjis", "'漢字'", "'a'"),
    "x": ("mediumtext", "'\U0001f34e'", "repeat('x', 70000)"),
    "bin": ("binary(4)", "''", "unhex('61000000')"),
    "vb": ("varbinary(4)", "''", "unhex('ff00')"),
    "blo": ("longblob", "''", "repeat(unhex('00ff'), 40000)"),
    "e": ("enum('sad', 'it''s ok', 'ä')", "'it''s ok'", "'ä'"),
    "e0": ("enum('a')", "''", "'a'"),
    "st": ("set('a', 'b', 'ö')", "''", "'a,ö'"),
    "j": ("json", '\'{"b": [1, null], "a": "ä"}\'', "'1'"),
    "gs": ("int as (i - 1) stored", None, None),
    "gv": ("int as (t + 1) virtual", None, None),
}
"""Columns of every type, and the least and the greatest value of each, or other odd ones."""


def test_every_type_is_the_same_from_the_copy_and_from_the_log(
    warehouse: Settings, stall: BinlogShop, rows: Rows
) -> None:
    given = [name for name, (_, low, _) in KINDS.items() if low is not None]
    low, high, none = (
        f"insert into kinds (id, {', '.join(given)}) values (%s, {', '.join(values)})"
        for values in ([KINDS[n][1] for n in given], [KINDS[n][2] for n in given], ["null"] * len(given))
    )
    columns = ", ".join(
        f"{name} {kind} {'' if name[0] == 'g' and name != 'g' else 'null'}" for name, (kind, _, _) in KINDS.items()
    )
    stall.sql(
        "set sql_mode = ''",
        f"create table kinds (id int primary key, {columns}) character set utf8mb4",
        *(statement % (number,) for number, statement in enumerate((low, high, none))),
    )
    table = replace(
        ARTICLES, name="kinds", location="kinds", columns=(Column("id", pa.int64(), "Key.", nullable=False),)
    )
    source = stall.captures(table)
    with opened(warehouse, source) as capturing:
        capturing.once()
        stall.sql(
            "set sql_mode = ''", *(statement % (number + 3,) for number, statement in enumerate((low, high, none)))
        )
        stall.sql("update kinds set id = id + 3 where id > 2", "update kinds set id = id + 3 where id > 5")
        assert (capturing.once().changes, capturing.refused) == (9, 0)
    listed = ", ".join(f"{name}::text" for name in KINDS)
    found = rows(f"select {listed} from raw_stall.kinds order by id")
    assert len(found) == 6
    for number in range(3):
        copied, logged = (dict(zip(KINDS, found[place], strict=True)) for place in (number, number + 3))
        assert {n: (copied[n], logged[n]) for n in KINDS if copied[n] != logged[n]} == {}
    least, most, nothing = (dict(zip(KINDS, row, strict=True)) for row in found[:3])
    assert set(nothing.values()) == {None}
    print(least)
    print(most)
