"""A business with three data subjects: riders and drivers, known by e-mail, and patients, known by UUID.

Each is forgotten by its own key, wherever the contracts and models say that it is, and stays out; the others stay.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from granary.cli.main import app
from granary.erasure import everywhere
from granary.load import api as load
from granary.load.api import load_table
from granary.load.append import append
from granary.privacy import forget, locations
from granary.privacy.filter import BLANK, identities_in, matches
from granary.privacy.identity import Identity, canonical, identify, identity_of
from granary.privacy.suppression_list import HashKey, folder
from granary.quarantine.replay import entries, replay
from granary.sources import select, subjects
from granary.sources.spec import Column
from granary.sources.subjects import Subject
from granary.sources.units import Rejected, SourceBatch, Unit
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from granary.warehouse.writer import LoadTransaction
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from granary.sources.spec import Source
    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]

HOUSEHOLD, RIDER, DRIVER, PATIENT = SUBJECTS = (
    Subject("household", "number"),
    Subject("rider", "email"),
    Subject("driver", "email"),
    Subject("patient", "uuid"),
)
ANN, EVE = "6f9619ff-8b86-d011-b42d-00c04fc964ff", "00000000-0000-4000-8000-000000000001"
SPELLED = ANN.upper().replace("-", "")
LEDGER_HOLDS = (
    "select count(*) from ops.load_audit where rows_read <> rows_loaded + rows_quarantined + rows_forgotten"
    " and status <> 'failed'"
)


@pytest.fixture
def transport(monkeypatch: pytest.MonkeyPatch, shop: Shop) -> Source:
    """A transport service: `orders` are rides in files, `calls` are appended one by one; the project declares three."""
    monkeypatch.setattr(subjects, "declared", lambda: {one.name: one for one in SUBJECTS})
    rides = table(
        Column("rider", pa.string(), "Who rode.", personal="identifier", subject="rider", aliases=("Rider E-Mail",)),
        Column("driver", pa.string(), "Who drove.", personal="identifier", subject="driver"),
        Column("patient", pa.string(), "Who was brought.", personal="pseudonym", subject="patient"),
        Column("fare", pa.float64(), "Fare.", minimum=0),
        new_columns="ignore",
    )
    patient = rides.column("patient")
    calls = replace(table(patient, disposition="append", key=("id",)), name="calls")
    source = replace(shop.source(rides), tables=(rides, calls))
    for module in (load, select, locations):
        monkeypatch.setattr(module, "SOURCES", {"shop": source})
    monkeypatch.setattr(locations, "BROKEN", {})
    made = manifest(rider=("dim_rider", "mart"), patient=("seen_patients", "append"))
    monkeypatch.setattr(locations, "_manifest", lambda _: made)
    return source


def manifest(sources: Mapping[str, Any] = {}, **models: tuple[str, str]) -> dict[str, Any]:
    """Return the part of a manifest that tells where data subjects are: a model for each, `mart` or `append`."""
    return {
        "sources": sources,
        "nodes": {
            name: {
                "name": name,
                "resource_type": "model",
                "schema": "build" if kind == "mart" else "intermediate",
                "config": {"schema": "build"}
                if kind == "mart"
                else {"materialized": "incremental", "incremental_strategy": "append"},
                "original_file_path": f"models/{name}.sql",
                "columns": {"who": {"config": {"meta": {"personal": "identifier", "subject": subject}}}},
            }
            for subject, (name, kind) in models.items()
        },
    }


def call(settings: Settings, source: Source, *rows: tuple[int, str | None]) -> Any:
    """Have calls arrive as from a stream."""
    batch = pa.RecordBatch.from_pydict({"id": [one for one, _ in rows], "patient": [who for _, who in rows]})
    with LoadTransaction(settings, "shop") as tx:
        return append(tx, source, source.tables[1], Unit("topic[0]"), [SourceBatch(batch)])


def arrive(settings: Settings, shop: Shop, source: Source) -> None:
    """Have riders, drivers and patients come into raw, quarantine, profiles, a mart and an appended table."""
    rides = {
        "id": [1, 2, 3, 4, 5, 6],
        "rider": [" Ann@Example.org", "bob@example.org", None, "ANN@example.org", "bob@example.org", None],
        "driver": ["dan@example.org", "ann@example.org", None, "dan@example.org", None, None],
        "patient": [EVE, SPELLED, "{" + ANN + "}", EVE, None, None],
        "fare": [5.0, 7.0, 1.0, -1.0, -1.0, 2.0],
    }
    broken = [
        Rejected("", "has 2 values", {"line": "7;from:ann@example.org."}),
        Rejected("", "has 2 values", {"line": f"8;urn:uuid:{ANN.upper()}"}),
        Rejected("", "has 2 values", {"line": "9;joann@example.org;" + ANN.replace("6f", "7f")}),
        Rejected("fare", "is not a number", {"ride": {"rider": "ann@EXAMPLE.org", "driver": None}, "fare": "x"}),
        Rejected("fare", "is not a number", {"ride": json.dumps({"patient": ANN}), "fare": "x"}),
    ]
    batch = pa.RecordBatch.from_pydict(rides)
    shop.put("a.csv", SourceBatch(batch, tuple(enumerate(broken, batch.num_rows))))
    load_table(settings, "shop", "orders")
    call(settings, source, (1, ANN), (2, EVE), (3, SPELLED))
    profile = {"percentiles": [], "top": [["Ann@example.org", 0.5]], "minimum": None, "maximum": "bob@example.org"}
    columns = json.dumps({"columns": [{"name": name, **profile} for name in ("rider", "driver")]})
    with connect(settings) as connection:
        for sql in (
            f"insert into ops.profiles (relation, row_count, profile) values ('raw_shop.orders', 1, '{columns}')",
            "create schema if not exists intermediate authorization transformer",
            "create schema if not exists marts authorization transformer",
            "create table marts.dim_rider (who text, business_date date, fare numeric(12, 2))",
            "insert into marts.dim_rider"
            " values ('ann@example.org', '2026-03-01', 5), ('bob@example.org', '2026-03-01', 9)",
            f"create table intermediate.seen_patients as select unnest(array['{ANN}', '{EVE}'])::uuid as who",
            "alter table intermediate.seen_patients owner to transformer",
            "create schema ada",
            "create table ada.copies as select 'ANN@Example.ORG'::text as rider",
        ):
            execute(connection, sql)
        connection.commit()


def nothing(settings: Settings) -> None:
    """Build nothing."""


def erase(settings: Settings, subject: str, key: str) -> dict[str, int]:
    """Forget somebody and return how many rows went, by relation."""
    done = forget.forget(settings, identify(subject, key), build=nothing)
    return {total.relation: total.rows for total in done.totals}


def test_each_is_forgotten_by_its_own_key(warehouse: Settings, shop: Shop, transport: Source, rows: Rows) -> None:
    arrive(warehouse, shop, transport)
    ids = "select array_agg(id order by id) from raw_shop.{}"
    refused = "select row_number, payload from ops.quarantine order by 1"
    assert rows(ids.format("orders")) == [([1, 2, 3, 6],)]
    assert [number for number, _ in rows(refused)] == [4, 5, 7, 8, 9, 10, 11]

    assert erase(warehouse, "rider", "ANN@example.org") == {
        "raw_shop.orders": 1,
        "ops.quarantine": 2,
        "ops.quarantine, text taken out": 1,
        "ops.profiles": 1,
        "marts.dim_rider": 1,
    }
    assert rows(ids.format("orders")) == [([2, 3, 6],)]  # 2 has a driver of that address, and no such rider
    left = dict(rows(refused))
    assert sorted(left) == [5, 7, 8, 9, 11]
    assert left[7] == BLANK
    assert left[9] == {"line": "9;joann@example.org;" + ANN.replace("6f", "7f")}
    shown = "from ops.profiles, jsonb_array_elements(profile -> 'columns') as c"
    assert rows(f"select c ->> 'name', jsonb_array_length(c -> 'top') {shown}") == [("rider", 0), ("driver", 1)]

    assert erase(warehouse, "patient", SPELLED) == {
        "raw_shop.orders": 2,
        "raw_shop.calls": 2,
        "intermediate.seen_patients": 1,
        "ops.quarantine": 1,
        "ops.quarantine, text taken out": 1,
    }
    assert rows(ids.format("orders")) == [([6],)]
    assert rows(ids.format("calls")) == [([2],)]
    assert rows("select who::text from intermediate.seen_patients") == [(EVE,)]
    assert sorted(dict(rows(refused))) == [5, 7, 8, 9]
    assert dict(rows(refused))[8] == BLANK
    assert rows(LEDGER_HOLDS) == [(0,)]


PUBLISHED = """
    create table if not exists ops.publishes (
        publish_id bigint generated always as identity primary key, schema_name text not null,
        invocation_id text not null, started_at timestamptz not null,
        finished_at timestamptz not null default clock_timestamp(), marts text[] not null,
        rows_inserted bigint not null, rows_deleted bigint not null, last_date date, loads_seen jsonb not null
    );
    create table if not exists ops.published_months (
        publish_id bigint not null references ops.publishes, mart text not null, business_month date,
        rows_inserted bigint not null, rows_deleted bigint not null, previous_row_count bigint,
        row_count bigint not null, previous_measures jsonb, measures jsonb not null
    );
    insert into ops.publishes (publish_id, schema_name, invocation_id, started_at, marts, rows_inserted, rows_deleted,
        loads_seen)
    overriding system value
    select number, schema_name, 'a', now(), array['dim_rider'], 2, 0, '{}'
    from (values (1, 'marts'), (2, 'marts'), (3, 'dev_ada_marts')) as made (number, schema_name);
    insert into ops.published_months (publish_id, mart, business_month, rows_inserted, rows_deleted, row_count,
        measures)
    values (1, 'dim_rider', '2026-03-01', 2, 0, 2, '{"fare": 14.00}'),
        (2, 'dim_rider', '2026-03-01', 2, 0, 2, '{"km": 12, "gone": 1}'),
        (3, 'dim_rider', '2026-03-01', 2, 0, 2, '{"fare": 14.00}');
    alter table marts.dim_rider add column km bigint default 6
"""


def test_of_a_mart_is_added_up_what_its_newest_publish_added_up(
    warehouse: Settings, shop: Shop, transport: Source
) -> None:
    """Which columns these are is decided where marts are published; here that is money no more, but kilometres."""
    arrive(warehouse, shop, transport)
    (mart,) = locations.locate(warehouse).marts
    assert mart.measures == ()
    with connect(warehouse) as connection:
        for sql in PUBLISHED.split(";"):
            execute(connection, sql)
        connection.commit()
    done = forget.forget(warehouse, identify("rider", "ann@example.org"), build=nothing)
    (total,) = (total for total in done.totals if total.relation == "marts.dim_rider")
    assert (total.rows, total.month, total.measures) == (1, "2026-03-01", {"km": "6"})


def test_who_is_forgotten_stays_out_however_they_come(
    warehouse: Settings, shop: Shop, transport: Source, rows: Rows
) -> None:
    arrive(warehouse, shop, transport)
    erase(warehouse, "rider", "ann@example.org")
    erase(warehouse, "patient", ANN)
    assert load_table(warehouse, "shop", "orders", full_refresh=True).rows_forgotten == 6
    again = {"id": [1, 2], "Rider E-Mail": ["ANN@EXAMPLE.ORG ", "zoe@example.org"], "driver": [None, "ann@example.org"]}
    more = {"patient": [None, None], "fare": [1.0, 1.0]}
    shop.put("b.csv", again | more)
    assert load_table(warehouse, "shop", "orders").rows_forgotten == 1
    done = call(warehouse, transport, (7, SPELLED.lower()), (8, EVE))
    assert (done.rows_read, done.rows_loaded, done.rows_forgotten) == (2, 1, 1)
    shop.put("c.csv", {"id": [9], "rider": ["cy@example.org"], "driver": [None], "patient": [None], "fare": [-9.0]})
    load_table(warehouse, "shop", "orders")
    waiting = [one.quarantine_id for one in entries(warehouse) if one.unit == "c.csv"]
    replay(warehouse, entries(warehouse, waiting), {"rider": "Ann@example.org", "fare": "1"})
    assert rows("select id from raw_shop.orders order by 1") == [(2,), (6,)]
    assert rows("select id from raw_shop.calls order by 1") == [(2,), (8,)]
    assert rows(LEDGER_HOLDS) == [(0,)]


def test_a_column_that_nothing_declares_is_named(
    warehouse: Settings, shop: Shop, transport: Source, rows: Rows
) -> None:
    """A mart that a build does not clear keeps the erasure open; a copy in somebody's schema is theirs to clear."""
    arrive(warehouse, shop, transport)
    done = forget.forget(warehouse, identify("rider", "ann@example.org"), build=nothing)
    assert (done.finished, done.left, done.elsewhere) == (False, ("marts.dim_rider",), ("ada.copies",))
    with connect(warehouse) as connection:
        execute(connection, "delete from marts.dim_rider where who like 'ann%'")
        connection.commit()
    assert forget.forget(warehouse, None, build=nothing).finished


def test_the_old_form_stays_valid(warehouse: Settings, shop: Shop, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Households that were forgotten when they were the only data subjects: 7 in the database, 8 in the list only."""
    secret = bytes(range(32))
    mark = hashlib.sha256(b"granary erasure key " + secret).hexdigest()[:16]
    seven, eight = (hmac.new(secret, f"household:{n}".encode(), hashlib.sha256).hexdigest() for n in (7, 8))
    folder(warehouse).mkdir(mode=0o700)
    (folder(warehouse) / "key").write_text(secret.hex() + "\n")
    old = {"subject": eight, "key_mark": mark, "requested_at": "2025-11-05T09:00:00+00:00", "reason": None}
    (folder(warehouse) / "list.jsonl").write_text(json.dumps(old) + "\n")
    with connect(warehouse) as connection:
        execute(connection, "insert into ops.erasures (subject, key_mark) values ($1, $2)", seven, mark)
        connection.commit()
    buyer = Column("buyer", pa.int64(), "Household.", personal="pseudonym", subject="household")
    source = shop.source(table(buyer))
    for module in (load, select, locations):
        monkeypatch.setattr(module, "SOURCES", {"shop": source})
    monkeypatch.setattr(locations, "_manifest", lambda _: manifest())
    shop.put("a.csv", {"id": [1, 2, 3], "buyer": [7, 8, 9]})
    assert load_table(warehouse, "shop", "orders").rows_forgotten == 2
    assert rows("select buyer from raw_shop.orders") == [(9,)]
    with connect(warehouse) as connection:  # as an older dump has it
        execute(connection, "insert into raw_shop.orders (id, buyer, _load_id, _row) select 4, 8, max(_load_id), 4"
                " from raw_shop.orders")  # fmt: skip
        connection.commit()
    done = forget.forget(warehouse, None, build=nothing)
    assert (done.finished, [total.rows for total in done.totals]) == (True, [1])
    assert rows("select buyer from raw_shop.orders") == [(9,)]
    kept = (folder(warehouse) / "list.jsonl").read_text().splitlines()
    assert json.loads(kept[0]) == old
    assert [json.loads(line)["subject"] for line in kept] == [eight, seven]


def test_the_same_key_of_another_subject_is_somebody_else() -> None:
    key = HashKey(b"k" * 32)
    hashes = {key.hash(identity_of(subject, "7")) for subject in SUBJECTS}
    assert len(hashes) == len(SUBJECTS)
    assert key.hash(Identity(HOUSEHOLD, "7")) == hmac.new(b"k" * 32, b"household:7", hashlib.sha256).hexdigest()


def test_a_key_is_the_same_however_it_is_written() -> None:
    assert {canonical("uuid", text) for text in (ANN, SPELLED, f" {{{ANN}}} ", f"urn:uuid:{ANN}")} == {ANN}
    assert canonical("uuid", "6f9619ff") == "6f9619ff"
    assert {canonical("email", text) for text in ("ann@example.org", " ANN@Example.ORG\n")} == {"ann@example.org"}
    assert canonical("email", "STRASSE@x.org") == canonical("email", "straße@x.org")


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"rider": "Ann@example.org", "patient": EVE}, "yes"),
        ({"rider": "bob@example.org", "patient": SPELLED}, "yes"),
        ({"rider": "bob@example.org", "ride": {"patient": ANN}}, "yes"),
        ({"rider": "bob@example.org", "ride": {"rider": "ann@example.org"}}, "no"),
        ({"driver": "ann@example.org"}, "no"),
        ({"line": "1,'ann@example.org',x"}, "maybe"),
        ({"line": "mailto:ann@example.org?x"}, "maybe"),
        ({"line": "1;ann@example.organic"}, "no"),
        ({"line": "1;jo.ann@example.org"}, "no"),
        ({"line": f"1;{ANN};x"}, "maybe"),
        ({"line": f"1;{SPELLED}0;x"}, "no"),
    ],
)
def test_whose_a_row_is(payload: Any, said: str) -> None:
    names = {"rider": RIDER, "patient": PATIENT}
    gone = {Identity(RIDER, "ann@example.org"), Identity(PATIENT, ANN)}
    assert matches(payload, names, gone.__contains__) == said
    assert bool(gone & identities_in(json.dumps(payload), names)) == (said != "no")


def declared_as(monkeypatch: pytest.MonkeyPatch, found: Any) -> Any:
    monkeypatch.setattr(subjects, "project_vars", lambda: {"data_subjects": found})
    return subjects.declared.__wrapped__()


def test_subjects_are_declared_in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    assert declared_as(monkeypatch, {"rider": {"key": "email"}, "patient": {"key": "uuid"}}) == {
        "rider": RIDER,
        "patient": PATIENT,
    }
    assert declared_as(monkeypatch, None) == {}
    for wrong, words in (
        (["rider"], "is not a mapping of names"),
        ({"Rider": {"key": "email"}}, "'Rider' is not lower snake case"),
        ({"rider": "email"}, "rider: 'email' does not say what its key is"),
        ({"rider": {"key": "phone"}}, "rider: {'key': 'phone'} does not say what its key is"),
        ({"rider": {"key": "email", "of": 1}}, "does not say what its key is"),
    ):
        with pytest.raises(GranaryError, match=r"vars: data_subjects: .*dbt_project\.yml.*a key is a number") as error:
            declared_as(monkeypatch, wrong)
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ({"subject": "ridder"}, "column a: there is no data subject 'ridder' .*; did you mean 'rider'\\?"),
        ({"subject": "x"}, "column a: there is no data subject 'x' .*; the project has household, rider, driver"),
        ({"subject": "rider", "personal": None}, "column a has a subject, so it tells persons apart"),
        ({"subject": "rider", "type": pa.int64()}, "rider is an e-mail address, and int64 holds none"),
        ({"subject": "patient", "type": pa.binary()}, "patient is a UUID, and binary holds none"),
        ({"subject": "household", "type": pa.float64()}, "household is a whole number, and double holds none"),
    ],
)
def test_a_contract_that_is_wrong_about_a_subject(transport: Source, column: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Column(**({"name": "a", "type": pa.string(), "description": "A.", "personal": "identifier"} | column))


def test_a_model_that_is_wrong_about_a_subject(
    warehouse: Settings, transport: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = {"name": "orders", "source_name": "shop", "schema": "raw_shop", "original_file_path": "models/_sources.yml"}
    other = {"rider": {"config": {"meta": {"subject": "driver"}}}}
    for made, words in (
        (manifest(ridder=("dim_rider", "mart")), r"dim_rider.who: there is no data subject 'ridder' .* mean 'rider'\?"),
        (
            manifest({"orders": raw | {"columns": other}}),
            "orders.rider: .* contract says rider and dbt's source driver",
        ),
    ):
        monkeypatch.setattr(locations, "_manifest", lambda _, made=made: made)
        with pytest.raises(GranaryError, match=words):
            locations.locate(warehouse)
    two = manifest(rider=("dim_rider", "mart"))
    two["nodes"]["dim_rider"]["columns"]["who"]["config"]["meta"]["subject"] = ["rider", "driver"]
    monkeypatch.setattr(locations, "_manifest", lambda _: two)
    with pytest.raises(
        GranaryError, match=r"a column holds keys of one data subject, and not of \['rider', 'driver'\]"
    ):
        locations.locate(warehouse)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["ridder", "ann@example.org"],
            "there is no data subject 'ridder' in dbt_project.yml (vars: data_subjects); did",
        ),
        (["rider", "17 Mill Lane"], "the key of data subject rider is an e-mail address"),
        (["patient", "17 Mill Lane"], "the key of data subject patient is a UUID"),
        (["household", "17 Mill Lane"], "the key of data subject household is a whole number"),
        (["household", "-7"], "No such option: -7"),
        (["rider"], "give a data subject and its key; the project has household, rider, driver"),
        (["ann@example.org"], "give a data subject and its key; the project has household, rider, driver"),
        ([], "give a data subject and a key, or --again alone"),
        (["rider", "ann@example.org", "--again"], "give a data subject and a key, or --again alone"),
    ],
)
def test_a_command_that_is_wrong(transport: Source, words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["forget", "--yes", *words])
    shown = " ".join(done.output.replace("│", " ").split())
    assert done.exit_code == 2
    assert said in shown
    assert "Mill Lane" not in shown


def test_the_only_subject_need_not_be_named(
    transport: Source, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    outcome = SimpleNamespace(known_before=False, totals=(), elsewhere=(), left=(), finished=True, erasures=())
    done = SimpleNamespace(outcome=outcome, exports=(), deliveries=(), not_stored="")
    monkeypatch.setattr(everywhere, "forget", lambda _, one, **__: asked.append(one) or done)
    monkeypatch.setattr("granary.cli.forget.ready", lambda: warehouse)
    monkeypatch.setattr(subjects, "declared", lambda: {"rider": RIDER})
    assert CliRunner().invoke(app, ["forget", "--yes", "Ann@example.org"]).exit_code == 0
    assert CliRunner().invoke(app, ["forget", "--yes", "rider", "ann@example.org"]).exit_code == 0
    assert asked == [Identity(RIDER, "ann@example.org")] * 2
    wrong = CliRunner().invoke(app, ["forget", "--yes", "rider"])
    assert (wrong.exit_code, "give a data subject and its key" in wrong.output) == (2, True)
