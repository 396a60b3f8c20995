"""Every argument of every spec: wrong types, words that there are not, negative numbers, empty texts, unknown keys.

Each is refused with a sentence that names the construct and the argument, and says what is allowed."""

from __future__ import annotations

import dataclasses
import inspect
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.readers.database import DatabaseReader
from granary.readers.files import Avro, Csv, Excel, FileReader, FixedWidth, Json, JsonLines, Limits, Orc, Parquet, Xml
from granary.readers.graphql import GraphqlReader, Query
from granary.readers.rest import (
    Api,
    ApiKey,
    Basic,
    Cursor,
    Endpoint,
    LinkHeader,
    Nested,
    NextLink,
    OAuth2,
    Offset,
    Page,
    Parent,
    RestReader,
    Since,
)
from granary.readers.tables import DeltaReader, IcebergReader
from granary.sources.discovery import collect
from granary.sources.spec import BinlogCapture, Capture, Column, Source, Stream, Table
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings

ID = Column("id", pa.int64(), "Key.", nullable=False)
API = Api("https://example.org")
ITEMS = Endpoint("items")
RIGHT: dict[Any, dict[str, Any]] = {
    Column: {"name": "a", "type": pa.string(), "description": "A."},
    Table: {
        "name": "things",
        "description": "T.",
        "location": "things/*.csv",
        "columns": (ID,),
        "disposition": "append",
        "freshness": timedelta(days=1),
    },
    Stream: {"topics": {"things": "things"}, "address": "ADDRESS", "secrets": "SECRETS"},
    Capture: {"setting": "URI", "slot": "granary", "publication": "granary"},
    BinlogCapture: {"setting": "URI", "server_id": 4711},
    Csv: {},
    JsonLines: {},
    Json: {},
    Parquet: {},
    Orc: {},
    Avro: {},
    Excel: {},
    FixedWidth: {"columns": (("id", 6),)},
    Xml: {"row": "person"},
    Limits: {},
    FileReader: {"location": "/landing"},
    DatabaseReader: {"uri": "sqlite:///x"},
    DeltaReader: {"location": "/lake"},
    IcebergReader: {"location": "/lake"},
    Api: {"url": "https://example.org"},
    ApiKey: {"name": "X-Key", "secret": "s3cr3t"},
    Basic: {"user": "ada", "secret": "s3cr3t"},
    OAuth2: {"token_url": "https://example.org/token", "client_id": "ada", "secret": "s3cr3t"},
    Since: {"param": "since"},
    Parent: {"of": ITEMS, "key": "id", "version": "version"},
    Endpoint: {"path": "items"},
    Page: {},
    Offset: {},
    Cursor: {"token": "next", "param": "after"},
    LinkHeader: {},
    NextLink: {},
    Nested: {"of": ITEMS, "levels": (("lines", "line_number"),), "keys": (("item_id", "id"),)},
    Query: {"path": "items", "text": "query ($after: String) { items(after: $after) { id } }", "rows": "items"},
    RestReader: {"api": API},
    GraphqlReader: {"api": API},
}
RIGHT[Source] = {
    "name": "shop",
    "description": "S.",
    "owner": "me",
    "kind": "files",
    "settings": (),
    "open_reader": lambda _: FileReader("/landing"),
    "tables": (Table(**RIGHT[Table]),),
}
TEXT, TUPLE, WHOLE = "is text and not", "is a tuple, such as ('a', 'b') or ('a',), and not", "is a whole number and not"
TRUTH, CODEC = "is True or False and not", "encoding is the name of a codec, such as 'utf-8' or 'cp1252', and not"
FORMATS = "auto, csv, jsonl, json, parquet, orc, avro, excel, or a value such as Xml(row='person')"
WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (Column, {"name": 5}, f"column 5: name {TEXT} 5"),
    (Column, {"name": ""}, "column name '' is not lower snake case"),
    (Column, {"type": "text"}, "column a: type is DataType and not 'text'"),
    (Column, {"description": ""}, "column a has no description"),
    (Column, {"nullable": "no"}, f"column a: nullable {TRUTH} 'no'"),
    (Column, {"minimum": "x"}, "column a: minimum is "),
    (Column, {"minimum": -1}, "column a: minimum is a length, a whole number from 0"),
    (Column, {"type": pa.date32(), "maximum": datetime(2017, 1, 1)}, "column a: maximum is a date: write date(2026"),  # noqa: DTZ001
    (Column, {"minimum": 3, "maximum": 2}, "column a: its minimum is over its maximum"),
    (Column, {"type": pa.float64(), "maximum": float("nan")}, "column a: maximum is a number, and not nan"),
    (Column, {"allowed": "abc"}, f"column a: allowed {TUPLE} 'abc'"),
    (Column, {"allowed": (1,)}, f"column a: allowed {TUPLE} (1,)"),
    (Column, {"personal": "secret"}, "column a: personal is one of identifier, demographic, pseudonym and"),
    (Column, {"aliases": "A"}, f"column a: aliases {TUPLE} 'A'"),
    (Column, {"missing": "nulls"}, "column a: missing is one of refuse, null and not 'nulls'"),
    (Column, {"subject": "customer"}, "column a: there is no data subject 'customer' in dbt_project.yml"),
    (Column, {"finite": 0}, f"column a: finite {TRUTH} 0"),
    (Column, {"null": "NA"}, f"column a: null {TUPLE} 'NA'"),
    (Column, {"null": (" NA",)}, "column a: null is a tuple of texts without blanks around them"),
    (Column, {"mixed": "yes"}, f"column a: mixed {TRUTH} 'yes'"),
    (Table, {"name": ""}, "table name '' is not lower snake case"),
    (Table, {"description": ""}, "table things: description is empty"),
    (Table, {"location": 5}, f"table things: location {TEXT} 5"),
    (Table, {"columns": [ID]}, f"table things: columns {TUPLE} ["),
    (Table, {"columns": ("id",)}, f"table things: columns {TUPLE} ('id',)"),
    (Table, {"disposition": "upsert"}, "table things: disposition is one of replace_unit, merge, replace, append"),
    (Table, {"freshness": 3}, "table things: freshness is timedelta and not 3"),
    (Table, {"freshness": -timedelta(1)}, "table things: freshness must be positive"),
    (Table, {"poll": 3}, "table things: poll is timedelta or None and not 3"),
    (Table, {"poll": -timedelta(hours=1)}, "table things: poll is a part of an hour or of a day"),
    (Table, {"poll": timedelta(minutes=7)}, "table things: poll is a part of an hour or of a day"),
    (Table, {"poll": timedelta(hours=1), "partition": "day"}, "table things: what comes by the day is not polled"),
    (Table, {"archive_after": 400}, "table things: archive_after is timedelta or None and not 400"),
    (
        Table,
        {"archive_after": timedelta(9), "disposition": "merge", "key": ("id",)},
        "table things: archive_after is for tables of which no row is found by a key",
    ),
    (Table, {"archive_after": timedelta(0)}, "table things: archive_after is a time, such as timedelta(days=400)"),
    (Table, {"key": "id"}, f"table things: key {TUPLE} 'id'"),
    (Table, {"key": ("id", "id")}, "table things: its key names a column twice"),
    (Table, {"cursor": ""}, "table things: its cursor is not a column"),
    (Table, {"partition": "daily"}, "table things: partition is one of day and not 'daily'"),
    (Table, {"new_columns": "ad"}, "table things: new_columns is one of add, ignore, refuse and not 'ad'"),
    (Table, {"retyped": "fits"}, "table things: retyped is one of fit, widen, refuse and not 'fits'"),
    (Table, {"contract": 0}, "table things: contract is over 0 and not 0"),
    (Table, {"contract": "1"}, f"table things: contract {WHOLE} '1'"),
    (Table, {"floor": -0.1}, "table things: shares are from 0 to 1"),
    (Table, {"floor": "half"}, "table things: floor is a number and not 'half'"),
    (Table, {"max_refused": float("nan")}, "table things: shares are from 0 to 1"),
    (Table, {"copies": "both"}, "table things: copies is one of report, load and not 'both'"),
    (Table, {"max_new_columns": -1}, "table things: max_new_columns is 0 or over and not -1"),
    (Source, {"name": "Shop"}, "source name 'Shop' is not lower snake case"),
    (Source, {"description": ""}, "source shop: description is empty"),
    (Source, {"owner": ""}, "source shop: owner is empty"),
    (Source, {"kind": ""}, "source shop: kind is empty"),
    (Source, {"kind": None}, f"source shop: kind {TEXT} None"),
    (Source, {"settings": "SHOP"}, f"source shop: settings {TUPLE} 'SHOP'"),
    (Source, {"settings": ("",)}, "source shop: settings has an empty text in it"),
    (Source, {"open_reader": "files"}, "source shop: open_reader is a function and not 'files'"),
    (Source, {"tables": ()}, "source shop needs tables with different names"),
    (Source, {"stream": "kafka"}, "source shop: stream is Stream or None and not 'kafka'"),
    (Source, {"capture": "cdc"}, "source shop: capture is Capture or BinlogCapture or None and not 'cdc'"),
    (Stream, {"topics": {}}, "stream: topics names a topic for each of some tables"),
    (Stream, {"topics": {"things": ""}}, "stream: topics names a topic for each of some tables"),
    (Stream, {"topics": {"things": 5}}, "stream: topics is a dict of texts and not {'things': 5}"),
    (Stream, {"topics": "things"}, "stream: topics is a dict of texts and not 'things'"),
    (Stream, {"address": ""}, "stream: address is empty"),
    (Stream, {"secrets": ""}, "stream: secrets is empty"),
    (Stream, {"envelope": "xml"}, "stream: envelope is one of debezium and not 'xml'"),
    (Stream, {"envelope": "debezium"}, "stream: changes of captured tables do not come by webhook"),
    (Stream, {"secrets": None}, f"stream: secrets {TEXT} None"),
    (Capture, {"setting": ""}, "capture: setting is empty"),
    (Capture, {"slot": "My-Slot"}, "slot name 'My-Slot' has other characters than a-z, 0-9 and _"),
    (Capture, {"publication": ""}, "a publication needs a name"),
    (Capture, {"alarm_bytes": -1}, "capture: alarm_bytes is over 0 and not -1"),
    (Capture, {"alarm_age": 60}, "capture: alarm_age is timedelta and not 60"),
    (Capture, {"alarm_age": timedelta(0)}, "capture: alarm_age is over 0 and not 0:00:00"),
    (BinlogCapture, {"setting": ""}, "capture: setting is empty"),
    (BinlogCapture, {"server_id": 0}, "server id 0 is not between 1 and 4294967295"),
    (BinlogCapture, {"server_id": "7"}, "capture: server_id is a whole number and not '7'"),
    (BinlogCapture, {"alarm_bytes": 0}, "capture: alarm_bytes is over 0 and not 0"),
    (BinlogCapture, {"alarm_age": timedelta(0)}, "capture: alarm_age is over 0 and not 0:00:00"),
    (Csv, {"delimiter": ""}, "delimiter is one ASCII character, not ''"),
    (Csv, {"delimiter": "||"}, "delimiter is one ASCII character, not '||'"),
    (Csv, {"delimiter": 5}, "Csv: delimiter is text or None and not 5"),
    (Csv, {"delimiter": ";", "quote": ";"}, "delimiter and quote are both ';'"),
    (Csv, {"quote": "''"}, 'quote is one ASCII character, not "\'\'"'),
    (Csv, {"escape": "ab"}, "escape is one ASCII character, not 'ab'"),
    (Csv, {"encoding": "utf-9"}, f"Csv: {CODEC} 'utf-9'"),
    (Csv, {"encoding": ""}, f"Csv: {CODEC} ''"),
    (Csv, {"encoding": "hex"}, f"Csv: {CODEC} 'hex'"),
    (Csv, {"header": "yes"}, "Csv: header is True or False or None and not 'yes'"),
    (Csv, {"columns": "id"}, f"Csv: columns {TUPLE} 'id'"),
    (Csv, {"skip": -1}, "Csv: skip is 0 or over and not -1"),
    (Csv, {"skip": "1"}, f"Csv: skip {WHOLE} '1'"),
    (Csv, {"null": "NA"}, f"Csv: null {TUPLE} 'NA'"),
    (Csv, {"decimal": ""}, "decimal and thousands are one character each, and no letter or digit"),
    (Csv, {"thousands": "."}, "'.' cannot stand before decimals and between thousands"),
    (Csv, {"dates": ("%d.%m",)}, "dates: '%d.%m' has no year"),
    (Csv, {"dates": "%d.%m.%Y"}, f"Csv: dates {TUPLE} '%d.%m.%Y'"),
    (Json, {"path": 5}, f"Json: path {TEXT} 5"),
    (Json, {"path": "data..rows"}, "Json: path is keys joined by dots, such as 'data.rows', and not 'data..rows'"),
    (Excel, {"sheet": ""}, "Excel: sheet is empty"),
    (Excel, {"sheet_column": ""}, "Excel: sheet_column is empty"),
    (Excel, {"sheet": -1}, "Excel: sheet is 0 or over and not -1"),
    (Excel, {"sheet": 1.5}, "Excel: sheet is text or a whole number or None and not 1.5"),
    (Excel, {"header_row": 0}, "Excel: header_row is over 0 and not 0"),
    (FixedWidth, {"columns": (("id", 0),)}, "a fixed-width file has columns of at least one character"),
    (FixedWidth, {"columns": ()}, "a fixed-width file has columns of at least one character"),
    (FixedWidth, {"columns": (("id", "6"),)}, f"FixedWidth: columns {TUPLE} (('id', '6'),)"),
    (FixedWidth, {"columns": (("id", 6), ("id", 2))}, "FixedWidth: columns names one twice"),
    (FixedWidth, {"encoding": "utf-9"}, f"FixedWidth: {CODEC} 'utf-9'"),
    (FixedWidth, {"encoding": None}, f"FixedWidth: encoding {TEXT} None"),
    (FixedWidth, {"skip": -1}, "FixedWidth: skip is 0 or over and not -1"),
    (FixedWidth, {"null": ""}, f"FixedWidth: null {TUPLE} ''"),
    (FixedWidth, {"decimal": "0"}, "decimal and thousands are one character each, and no letter or digit"),
    (FixedWidth, {"thousands": ",,"}, "decimal and thousands are one character each, and no letter or digit"),
    (FixedWidth, {"dates": ("%Q",)}, "dates: '%Q' has no year"),
    (Xml, {"row": ""}, "Xml: row is empty"),
    (Xml, {"row": None}, f"Xml: row {TEXT} None"),
    *((Limits, {one.name: 0}, f"Limits: {one.name} is over 0 and not 0") for one in dataclasses.fields(Limits)),
    (Limits, {"ratio": "high"}, f"Limits: ratio {WHOLE} 'high'"),
    (DeltaReader, {"location": ""}, "DeltaReader: location is empty"),
    (DeltaReader, {"location": None}, f"DeltaReader: location {TEXT} something else"),
    (DeltaReader, {"location": "iceberg+https://host/x"}, "DeltaReader: an Iceberg catalogue has no Delta tables"),
    (DeltaReader, {"rewrites": "ignore"}, "DeltaReader: rewrites is one of follow, refuse and not 'ignore'"),
    (DeltaReader, {"credentials": {"key": 5}}, "DeltaReader: credentials is a dict of texts or None and not something"),
    (IcebergReader, {"location": 5}, f"IcebergReader: location {TEXT} something else"),
    (IcebergReader, {"rewrites": True}, "IcebergReader: rewrites is one of follow, refuse and not True"),
    (
        IcebergReader,
        {"credentials": {"password": "s3cr3t"}},
        "IcebergReader: credentials are key, secret, token, credential, and not 'password'",
    ),
    (IcebergReader, {"credentials": "s3cr3t"}, "IcebergReader: credentials is a dict of texts or None and not some"),
    (FileReader, {"location": ""}, "FileReader: location is empty"),
    (FileReader, {"location": None}, f"FileReader: location {TEXT} something else"),
    (FileReader, {"format": "exel"}, f"FileReader: format is one of {FORMATS}, and not 'exel'"),
    (FileReader, {"format": ""}, f"FileReader: format is one of {FORMATS}, and not ''"),
    (FileReader, {"format": Csv}, f"FileReader: format is one of {FORMATS}, and not <class"),
    (FileReader, {"options": {"things": "csv"}}, "FileReader: options of things is a format's options, such as Csv("),
    (FileReader, {"options": Csv()}, "FileReader: options is a dict or None and not Csv()"),
    (FileReader, {"settle": -1}, "FileReader: settle is 0 or over and not -1"),
    (FileReader, {"settle": "60"}, "FileReader: settle is a number and not '60'"),
    (FileReader, {"done": True}, f"FileReader: done {TEXT} True"),
    (FileReader, {"members": ""}, "FileReader: members is empty"),
    (FileReader, {"members": 5}, f"FileReader: members {TEXT} 5"),
    (FileReader, {"credentials": {"key": 5}}, "FileReader: credentials is a dict of texts or None and not something"),
    (FileReader, {"credentials": "s3cr3t"}, "FileReader: credentials is a dict of texts or None and not something"),
    (FileReader, {"limits": {"ratio": 5}}, "FileReader: limits is Limits or None and not {'ratio': 5}"),
    (DatabaseReader, {"uri": ""}, "DatabaseReader: uri is empty"),
    (DatabaseReader, {"uri": 5}, f"DatabaseReader: uri {TEXT} something else"),
    (DatabaseReader, {"overlap": 60}, "DatabaseReader: overlap is timedelta and not 60"),
    (DatabaseReader, {"overlap": -timedelta(1)}, "DatabaseReader: overlap is 0 or over and not -1 day, 0:00:00"),
    (DatabaseReader, {"overlap_number": -1}, "DatabaseReader: overlap_number is 0 or over and not -1"),
    (DatabaseReader, {"overlap_number": "5"}, f"DatabaseReader: overlap_number {WHOLE} '5'"),
    (DatabaseReader, {"parallel": 0}, "DatabaseReader: parallel is over 0 and not 0"),
    (DatabaseReader, {"zone": "Europe/Zürich"}, "DatabaseReader: zone is a time zone's name, such as 'Europe/Zurich',"),
    (DatabaseReader, {"zone": ""}, "DatabaseReader: zone is a time zone's name, such as 'Europe/Zurich', not ''"),
    (DatabaseReader, {"zero_dates": "nul"}, "DatabaseReader: zero_dates is one of refuse, null and not 'nul'"),
    (DatabaseReader, {"timeout": 60}, "DatabaseReader: timeout is timedelta and not 60"),
    (DatabaseReader, {"timeout": timedelta(0)}, "DatabaseReader: timeout is over 0 and not 0:00:00"),
    (Api, {"url": ""}, "Api: url is not http:// or https://"),
    (Api, {"url": "ftp://example.org"}, "Api: url is not http:// or https://"),
    (Api, {"url": "https://ada:s3cr3t@example.org"}, "Api: url has credentials in it; declare them as auth"),
    (Api, {"auth": "s3cr3t"}, "Api: auth is ApiKey or Basic or OAuth2 or None and not something else"),
    (Api, {"rate": 0}, "Api: rate is over 0 and not 0"),
    (Api, {"rate": "5/s"}, "Api: rate is a number or None and not '5/s'"),
    (Api, {"attempts": 0}, "Api: attempts is over 0 and not 0"),
    (Api, {"timeout": float("nan")}, "Api: timeout is over 0 and not nan"),
    (Api, {"deadline": -1}, "Api: deadline is over 0 and not -1"),
    (Api, {"longest_wait": -1}, "Api: longest_wait is 0 or over and not -1"),
    (Api, {"max_bytes": 0}, "Api: max_bytes is over 0 and not 0"),
    (Api, {"max_pages": 0}, "Api: max_pages is over 0 and not 0"),
    (Api, {"max_depth": 0}, "Api: max_depth is over 0 and not 0"),
    (Api, {"headers": {"X-Key": "s3cr3t"}}, f"Api: headers {TUPLE} something else"),
    (ApiKey, {"name": ""}, "ApiKey: name is empty"),
    (ApiKey, {"secret": 5}, f"ApiKey: secret {TEXT} something else"),
    (ApiKey, {"secret": ""}, "ApiKey: secret is empty"),
    (ApiKey, {"place": "body"}, "ApiKey: place is one of header, query and not 'body'"),
    (ApiKey, {"prefix": None}, f"ApiKey: prefix {TEXT} None"),
    (Basic, {"user": ""}, "Basic: user is empty"),
    (Basic, {"secret": None}, f"Basic: secret {TEXT} something else"),
    (OAuth2, {"token_url": "example.org"}, "OAuth2: token_url is not http:// or https://"),
    (OAuth2, {"client_id": ""}, "OAuth2: client_id is empty"),
    (OAuth2, {"secret": ""}, "OAuth2: secret is empty"),
    (OAuth2, {"scope": ["a"]}, f"OAuth2: scope {TEXT} ['a']"),
    (OAuth2, {"style": "query"}, "OAuth2: style is one of header, body and not 'query'"),
    (OAuth2, {"extra": ("s3cr3t",)}, f"OAuth2: extra {TUPLE} something else"),
    (Since, {"param": ""}, "Since : param is empty"),
    (Since, {"written": "unix"}, "Since since: written is one of iso, date, seconds, milliseconds, number and"),
    (Since, {"overlap": 5}, "Since since: overlap is timedelta and not 5"),
    (Since, {"overlap": -timedelta(1)}, "Since since: overlap is 0 or over and not -1 day"),
    (Parent, {"of": "items"}, "Parent: of is Endpoint and not 'items'"),
    (Parent, {"key": ""}, "Parent: key is empty"),
    (Parent, {"version": None}, f"Parent: version {TEXT} None"),
    (Endpoint, {"path": 5}, f"Endpoint 5: path {TEXT} 5"),
    (Endpoint, {"path": "items/{id}"}, "items/{id}: a hole in a path and a parent that fills it go together"),
    (Endpoint, {"rows": None}, f"Endpoint items: rows {TEXT} None"),
    (Endpoint, {"pagination": "page"}, "Endpoint items: pagination is Pagination or None and not 'page'"),
    (Endpoint, {"pagination": Page}, "Endpoint items: pagination is Pagination or None and not <class"),
    (Endpoint, {"since": "updated"}, "Endpoint items: since is Since or None and not 'updated'"),
    (Endpoint, {"parent": "items"}, "Endpoint items: parent is Parent or None and not 'items'"),
    (Endpoint, {"params": {"key": "s3cr3t"}}, f"Endpoint items: params {TUPLE} something else"),
    (Endpoint, {"total": ""}, "Endpoint items: total is empty"),
    (Endpoint, {"ends": (500,)}, "items: pages end with 400, 404, 410, 416, not with (500,)"),
    (Endpoint, {"ends": 404}, f"Endpoint items: ends {TUPLE} 404"),
    (Endpoint, {"conditional": "yes"}, f"Endpoint items: conditional {TRUTH} 'yes'"),
    (Page, {"param": ""}, "Page: param is empty"),
    (Page, {"first": "1"}, f"Page: first {WHOLE} '1'"),
    (Page, {"size": 100}, f"Page: size {TUPLE} 100"),
    (Page, {"size": ("per_page", -5)}, "Page: size is a parameter and a number over 0, and not ('per_page', -5)"),
    (Page, {"pages": ""}, "Page: pages is empty"),
    (Page, {"more": 5}, "Page: more is text or None and not 5"),
    (Offset, {"param": ""}, "Offset: param is empty"),
    (Offset, {"size": ("", 5)}, "Offset: size is a parameter and a number over 0, and not ('', 5)"),
    (Offset, {"more": ""}, "Offset: more is empty"),
    (Cursor, {"token": ""}, "Cursor: token is empty"),
    (Cursor, {"param": None}, f"Cursor: param {TEXT} None"),
    (Cursor, {"size": ("limit", 0)}, "Cursor: size is a parameter and a number over 0, and not ('limit', 0)"),
    (Cursor, {"more": ""}, "Cursor: more is empty"),
    (Cursor, {"optional": 1}, f"Cursor: optional {TRUTH} 1"),
    (LinkHeader, {"size": ("limit", 0)}, "LinkHeader: size is a parameter and a number over 0, and not ('limit', 0)"),
    (NextLink, {"link": ""}, "NextLink: link is empty"),
    (NextLink, {"size": "100"}, f"NextLink: size {TUPLE} '100'"),
    (NextLink, {"optional": "yes"}, f"NextLink: optional {TRUTH} 'yes'"),
    (Nested, {"of": "items"}, "Nested: of is Holder and not 'items'"),
    (Nested, {"levels": ()}, "a nested table needs a list, a key of its parent, and different names for its columns"),
    (Nested, {"levels": (("lines", ""),)}, "Nested: levels and keys have an empty text in them"),
    (Nested, {"keys": ("id",)}, f"Nested: keys {TUPLE} ('id',)"),
    (Query, {"path": ""}, "Query : path is empty"),
    (Query, {"text": ""}, "Query items: text is empty"),
    (Query, {"text": "mutation { a }"}, "items: only a query is sent, one at a time: it may have to be sent again"),
    (Query, {"rows": None}, f"Query items: rows {TEXT} None"),
    (Query, {"variables": {"a": 1}}, f"Query items: variables {TUPLE} {{'a': 1}}"),
    (Query, {"size": ("first", -1)}, "Query items: size is a variable and a number over 0, and not ('first', -1)"),
    (Query, {"after": ""}, "Query items: after is empty"),
    (Query, {"since": Since("since")}, "items: the query has no variable $since"),
    (Query, {"since": "since"}, "Query items: since is Since or None and not 'since'"),
    (RestReader, {"api": "https://example.org"}, "RestReader: api is Api and not str"),
    (RestReader, {"*": (ITEMS, ITEMS)}, "RestReader: items is declared twice"),
    (RestReader, {"*": ("items",)}, "RestReader: what it reads is Endpoint or Nested and not 'items'"),
    (GraphqlReader, {"api": None}, "GraphqlReader: api is Api and not NoneType"),
    (GraphqlReader, {"*": (ITEMS,)}, "GraphqlReader: what it reads is Query or Nested and not Endpoint("),
    *((kind, {"xyzzy": 1}, f"{kind.__name__} has no setting 'xyzzy'; there are ") for kind in (Csv, Table)),
    (FileReader, {"optoins": {}}, "FileReader has no setting 'optoins'; did you mean 'options'?"),
    (DatabaseReader, {"paralel": 2}, "DatabaseReader has no setting 'paralel'; did you mean 'parallel'?"),
    *((kind, {"sheet": 1}, f"{kind.__name__} has no setting 'sheet'") for kind in (Parquet, Orc, Avro, JsonLines, Xml)),
]  # fmt: skip


def opened(kind: Any, wrong: dict[str, Any]) -> Source:
    """Return a source whose module makes this as it is opened."""

    def make(_: Any) -> Any:
        given = RIGHT[kind] | wrong
        return kind(*(given.pop(name) for name in ("api",) if "*" in given), *given.pop("*", ()), **given)

    return Source(**RIGHT[Source] | {"open_reader": make})


@pytest.mark.parametrize(
    ("kind", "wrong", "words"),
    WRONG,
    ids=[f"{kind.__name__}-{'-'.join(wrong)}-{n}" for n, (kind, wrong, _) in enumerate(WRONG)],
)
def test_a_wrong_word_is_named_with_what_is_allowed(
    settings: Settings, kind: Any, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(GranaryError) as raised:
        opened(kind, wrong).reader(settings)
    assert raised.value.what.startswith(f"source shop cannot be opened: {words}"), raised.value.what
    assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize("kind", [kind for kind in RIGHT if kind not in (RestReader, GraphqlReader)])
def test_every_argument_is_tried_and_none_takes_a_foreign_thing(settings: Settings, kind: Any) -> None:
    kind(**RIGHT[kind])
    names = [name for name in inspect.signature(kind).parameters if name != "self"]
    tried = {name for known, wrong, _ in WRONG if known is kind for name in wrong}
    assert [name for name in names if name not in tried] == []
    for name in names:
        with pytest.raises(GranaryError, match=rf"\b{name}\b"):
            opened(kind, {name: object()}).reader(settings)


def test_what_lacks_is_named(settings: Settings) -> None:
    source = Source(**RIGHT[Source] | {"open_reader": lambda _: FixedWidth()})  # type: ignore[call-arg]
    with pytest.raises(GranaryError, match="source shop cannot be opened: FixedWidth lacks 'columns'"):
        source.reader(settings)


def test_a_reader_is_one_and_its_options_are_of_tables_of_the_source(settings: Settings) -> None:
    with pytest.raises(GranaryError, match="source shop cannot be opened: open_reader returns no reader, but Csv"):
        Source(**RIGHT[Source] | {"open_reader": lambda _: Csv()}).reader(settings)
    mistyped = Source(**RIGHT[Source] | {"open_reader": lambda _: FileReader("/x", options={"thigns": Csv()})})
    with pytest.raises(GranaryError, match="cannot be opened: options names thigns, and it has no such table"):
        mistyped.reader(settings)


MODULE = """
from datetime import date, datetime, timedelta
import pyarrow as pa
from granary.sources.spec import Capture
from granary.sources.spec import Column, Source, Stream, Table
MADE = {made}
"""


@pytest.mark.parametrize("kind", [Column, Table, Stream, Capture])
def test_a_wrong_word_costs_its_own_source_at_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    folder = tmp_path / f"of_{kind.__name__.lower()}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    wanted = {}
    for number, (known, wrong, words) in enumerate(WRONG):
        if known is kind and all(type(value) in (str, int, dict) for value in wrong.values()):
            arguments = ", ".join(f"{name}={_source(value)}" for name, value in (RIGHT[kind] | wrong).items())
            (folder / f"bad{number}.py").write_text(MODULE.format(made=f"{kind.__name__}({arguments})"))
            wanted[f"bad{number}"] = f"source bad{number} cannot be used: {words}"
    found, broken = collect(folder.name, [str(folder)])
    assert found == {}
    assert wanted
    assert [name for name, words in wanted.items() if not broken[name].what.startswith(words)] == []
    assert {name: error.where for name, error in broken.items()} == {
        name: f"{folder / name}.py, line 6" for name in broken
    }


def _source(value: Any) -> str:
    if isinstance(value, pa.DataType):
        return "pa.string()"
    if isinstance(value, timedelta):
        return f"timedelta(seconds={value.total_seconds()})"
    return "(Column('id', pa.int64(), 'Key.', nullable=False),)" if value == (ID,) else repr(value)
