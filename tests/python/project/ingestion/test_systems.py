"""The CRM database, the marketing service and the event files: incremental, and every way in which they fail."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from granary.load import api as load
from granary.load.api import load_table
from granary.readers.rest import RestReader
from granary.sources.discovery import SOURCES
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from granary.warehouse.settings import Settings
    from tests.python.project.ingestion.conftest import Service

    Rows = Callable[..., list[tuple[object, ...]]]
    Sql = Callable[[str], None]

AGES = "select household_id, age from raw_crm.households order by 1"


def test_crm_rows_are_merged_past_the_cursor(warehouse: Settings, crm: Sql, rows: Rows) -> None:
    first = load_table(warehouse, "crm", "households")
    assert (first.status, first.rows_loaded, first.watermark_after) == ("loaded", 2, "2017-01-02T00:00:00+00:00")
    # Committed late, with the very instant of the watermark: must not be missed.
    crm("insert into households (household_id, age, updated_at) values (3, '65+', '2017-01-02Z')")
    crm("update households set age = '25-34', updated_at = '2017-02-01Z' where household_id = 1")
    second = load_table(warehouse, "crm", "households")
    assert (second.rows_read, second.watermark_before) == (3, "2017-01-02T00:00:00+00:00")
    assert second.watermark_after == "2017-02-01T00:00:00+00:00"
    assert rows(AGES) == [(1, "25-34"), (2, None), (3, "65+")]
    loads = dict(rows("select household_id, _load_id from raw_crm.households"))  # type: ignore[arg-type]
    assert loads == {1: second.load_ids[0], 2: first.load_ids[0], 3: second.load_ids[0]}
    assert load_table(warehouse, "crm", "households").status == "unchanged"


def test_crm_stores_that_close_disappear(warehouse: Settings, crm: Sql, rows: Rows) -> None:
    load_table(warehouse, "crm", "stores")
    crm("delete from stores where store_id = 10")
    assert load_table(warehouse, "crm", "stores").rows_deleted == 1
    assert rows("select count(*), max(store_id) from raw_crm.stores") == [(9, 9)]


def test_crm_replace_below_its_floor_is_refused(warehouse: Settings, crm: Sql, rows: Rows) -> None:
    load_table(warehouse, "crm", "stores")
    crm("delete from stores where store_id > 5")
    with pytest.raises(GranaryError, match="the source offers 5 rows, the table has 10: below its floor of 90%"):
        load_table(warehouse, "crm", "stores")
    crm("delete from stores")
    with pytest.raises(GranaryError, match="the source offers 0 rows"):
        load_table(warehouse, "crm", "stores")
    assert rows("select count(*) from raw_crm.stores") == [(10,)]


def test_crm_column_retyped(warehouse: Settings, crm: Sql) -> None:
    crm("alter table households alter column age type integer using 30")
    with pytest.raises(GranaryError, match="column age is retyped: string was agreed, int32 came"):
        load_table(warehouse, "crm", "households")


def test_crm_table_gone(warehouse: Settings, crm: Sql) -> None:
    crm("drop table households")
    with pytest.raises(GranaryError, match=r'the source database has no table: relation "public\.households"'):
        load_table(warehouse, "crm", "households")


def test_crm_down(warehouse: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows: Rows) -> None:
    monkeypatch.setenv("GRANARY_CRM_URL", f"postgresql://u:secret-word@/crm?host={tmp_path}")
    with pytest.raises(GranaryError, match="cannot connect to Postgres") as caught:
        load_table(warehouse, "crm", "households")
    assert "secret-word" not in str(caught.value)
    assert rows("select status from ops.load_audit") == [("failed",)]


def test_crm_dies_in_mid_read(warehouse: Settings, crm: Sql, rows: Rows) -> None:
    # Large enough that the server is still sending when the loader has its first batch.
    crm("insert into households (household_id, age, updated_at)"
        " select n, repeat('x', 200), '2017-03-01Z' from generate_series(10, 400000) as n")  # fmt: skip

    def kill(progress: object) -> None:
        crm("select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()")  # fmt: skip

    with pytest.raises(GranaryError, match="the source database stopped answering"):
        load_table(warehouse, "crm", "households", progress=kill)
    assert rows("select to_regclass('raw_crm.households')::text") == [(None,)]
    assert load_table(warehouse, "crm", "households").rows_loaded == 2 + 399991


CAMPAIGN = {
    "campaign_id": 1,
    "campaign_type": "Type A",
    "start_date": "2017-03-03",
    "end_date": "2017-04-09",
    "updated_at": "2017-02-24T14:00:00Z",
}


def impatient(monkeypatch: pytest.MonkeyPatch, **limits: float) -> None:
    """Have the source `marketing` give up sooner."""
    spec = SOURCES["marketing"]

    def open_reader(settings: Mapping[str, str]) -> RestReader:
        reader = spec.open_reader(settings)
        assert isinstance(reader, RestReader)
        return RestReader(replace(reader.client.api, **limits), *reader.endpoints.values())  # type: ignore[arg-type]

    monkeypatch.setattr(load, "SOURCES", {"marketing": replace(spec, open_reader=open_reader)})


def test_api_pages_and_cursor(warehouse: Settings, service: Service, rows: Rows) -> None:
    service.page([CAMPAIGN], token="t1")
    service.page([CAMPAIGN | {"campaign_id": 2, "updated_at": "2017-02-25T14:00:00Z"}])
    result = load_table(warehouse, "marketing", "campaigns")
    assert result.rows_loaded == 2
    assert service.asked == ["/v1/campaigns?page_size=5000", "/v1/campaigns?page_size=5000&page_token=t1"]
    assert service.keys == ["right-key", "right-key"]
    assert rows("select campaign_id, updated_at from raw_marketing.campaigns order by 1") == [
        (1, datetime(2017, 2, 24, 14, tzinfo=timezone.utc)),
        (2, datetime(2017, 2, 25, 14, tzinfo=timezone.utc)),
    ]
    service.asked.clear()
    service.answers.clear()
    service.page([])
    assert load_table(warehouse, "marketing", "campaigns").status == "unchanged"
    assert service.asked == ["/v1/campaigns?updated_since=2017-02-25T14%3A00%3A00%2B00%3A00&page_size=5000"]


def test_api_children_are_read_when_their_parent_changes(warehouse: Settings, service: Service, rows: Rows) -> None:
    service.page([CAMPAIGN])
    service.page([{"campaign_id": 1, "household_id": 5}, {"campaign_id": 1, "household_id": 6}])
    assert load_table(warehouse, "marketing", "recipients").rows_loaded == 2
    service.asked.clear()
    service.answers.clear()
    service.page([CAMPAIGN])
    assert load_table(warehouse, "marketing", "recipients").status == "unchanged"
    assert service.asked == ["/v1/campaigns?page_size=5000"]
    service.answers.clear()
    service.asked.clear()
    service.page([CAMPAIGN | {"updated_at": "2017-03-01T00:00:00Z"}])
    service.page([{"campaign_id": 1, "household_id": 6}])
    again = load_table(warehouse, "marketing", "recipients")
    assert (again.rows_loaded, again.rows_deleted) == (1, 2)
    assert rows("select household_id from raw_marketing.recipients") == [(6,)]


def test_api_limit_and_errors_are_waited_out(warehouse: Settings, service: Service) -> None:
    service.answer(429, Retry_After="0")
    service.answer(500, Retry_After="0")
    service.page([CAMPAIGN])
    assert load_table(warehouse, "marketing", "campaigns").rows_loaded == 1
    assert len(service.asked) == 3


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, r"the service refuses our key \(401\)"),
        (404, "the service answered 404"),
        (429, r"still limits our rate after every retry \(429\)"),
        (500, "the service answered 500"),
    ],
)
def test_api_answers_with_an_error(
    warehouse: Settings, service: Service, rows: Rows, monkeypatch: pytest.MonkeyPatch, status: int, words: str
) -> None:
    impatient(monkeypatch, attempts=2)
    service.page([CAMPAIGN], token="t1")
    service.answer(status, Retry_After="0")
    with pytest.raises(GranaryError, match=words) as caught:
        load_table(warehouse, "marketing", "campaigns")
    assert "right-key" not in str(caught.value)
    assert rows("select to_regclass('raw_marketing.campaigns')::text") == [(None,)]


def test_api_long_wait_is_not_obeyed(warehouse: Settings, service: Service) -> None:
    service.answer(429, Retry_After="86400")
    with pytest.raises(GranaryError, match="the service asks us to wait 86400 s"):
        load_table(warehouse, "marketing", "campaigns")


def test_api_silent(warehouse: Settings, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, attempts=1, timeout=0.2)
    monkeypatch.setenv("GRANARY_MARKETING_URL", "http://127.0.0.1:1")
    with pytest.raises(GranaryError, match="the service does not answer: it refuses the connection"):
        load_table(warehouse, "marketing", "campaigns")


def test_api_times_out(warehouse: Settings, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, attempts=1, timeout=0.2)
    service.hang()
    try:
        with pytest.raises(GranaryError, match=r"the service does not answer: it sent nothing for 0\.2 s"):
            load_table(warehouse, "marketing", "campaigns")
    finally:
        service.release()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"data": [', "the answer is not JSON"),
        (b"[]", "the answer is not the agreed JSON"),
        (b'{"data": 3, "next_page_token": null}', "the answer is not the agreed JSON"),
        (b'{"data": []}', "the answer is not the agreed JSON"),
    ],
)
def test_api_malformed(warehouse: Settings, service: Service, rows: Rows, body: bytes, words: str) -> None:
    service.page([CAMPAIGN], token="t1")
    service.answer(200, body)
    with pytest.raises(GranaryError, match=words):
        load_table(warehouse, "marketing", "campaigns")
    assert rows("select to_regclass('raw_marketing.campaigns')::text") == [(None,)]


def test_api_page_token_that_repeats(warehouse: Settings, service: Service) -> None:
    service.page([CAMPAIGN], token="same")
    with pytest.raises(GranaryError, match="the pages form a loop: a page token came twice"):
        load_table(warehouse, "marketing", "campaigns")
    assert len(service.asked) == 2


def test_api_page_that_repeats(warehouse: Settings, service: Service) -> None:
    service.page([CAMPAIGN, CAMPAIGN | {"campaign_id": 2}], token="one")
    service.page([CAMPAIGN, CAMPAIGN | {"campaign_id": 2}], token="two")
    with pytest.raises(GranaryError, match="the pages form a loop: a page came twice"):
        load_table(warehouse, "marketing", "campaigns")


def event(number: int, **changes: object) -> str:
    row = {
        "event_id": f"e{number}",
        "type": "coupon_redeemed",
        "occurred_at": "2017-03-12T00:00:00-05:00",
        "household_id": number,
        "coupon_upc": 10,
        "campaign_id": 1,
    }
    return json.dumps(row | changes)


def test_events_keep_their_instant(warehouse: Settings, events: Path, rows: Rows) -> None:
    (events / "2017-03-12.jsonl").write_text(event(1) + "\n" + event(2, occurred_at="2017-03-12T04:00:00Z") + "\n")
    load_table(warehouse, "events", "coupon_redemptions")
    assert rows("select event_id, occurred_at from raw_events.coupon_redemptions order by 1") == [
        ("e1", datetime(2017, 3, 12, 5, tzinfo=timezone.utc)),
        ("e2", datetime(2017, 3, 12, 4, tzinfo=timezone.utc)),
    ]


def test_bad_event_lines_are_refused_alone(warehouse: Settings, events: Path, rows: Rows) -> None:
    lines = [event(n) for n in range(1, 1001)]
    lines[9] = "{not json"
    lines[19] = event(20, household_id="twenty")
    lines[29] = event(30, occurred_at="yesterday")
    lines[39] = event(40, type="coupon_lost")
    (events / "2017-03-12.jsonl").write_text("\n".join(lines) + "\n")
    result = load_table(warehouse, "events", "coupon_redemptions")
    assert (result.rows_read, result.rows_loaded, result.rows_quarantined) == (1000, 996, 4)
    assert rows("select row_number, column_name, reason from ops.quarantine order by 1") == [
        (10, "", "is not JSON: Expecting property name enclosed in double quotes"),
        (20, "household_id", "is not a valid int64"),
        (30, "occurred_at", "is not a valid timestamp[us, tz=UTC]"),
        (40, "type", "is none of coupon_redeemed"),
    ]
    assert rows("select payload ->> 'line' from ops.quarantine where row_number = 10") == [("{not json",)]
    assert rows("select _row from raw_events.coupon_redemptions where event_id = 'e1000'") == [(1000,)]
