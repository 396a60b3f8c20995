"""What a mart promises is written as the standard says; a change is judged, with who uses what goes."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime, timedelta, timezone
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft201909Validator
from typer.testing import CliRunner

from granary.cli.main import app
from granary.contracts.changes import ORDER, differences, judged, next_version
from granary.contracts.document import document, marts
from granary.contracts.users import User, users
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from tests.python.engine.contracts.conftest import FACT, column, data_test

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from granary.warehouse.settings import Settings

    Has = Callable[[dict[str, Any]], Path]
    Edit = Callable[[dict[str, Any]], object]

TODAY = datetime.now(timezone.utc).date()
LATER = (TODAY + timedelta(days=60)).isoformat()
SOON = (TODAY + timedelta(days=3)).isoformat()
OVER = (TODAY - timedelta(days=1)).isoformat()


def contract(manifest: dict[str, Any]) -> dict[str, Any]:
    return document(manifest, marts(manifest)["fct_orders"])


def properties(manifest: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one for one in contract(manifest)["schema"][0]["properties"]}


def test_a_contract_is_one_of_the_standard(manifest: dict[str, Any]) -> None:
    schema = json.loads((resources.files("open_data_contract_standard") / "schema.json").read_text())
    for node in marts(manifest).values():
        made = document(manifest, node) | {"version": "1.0.0"}
        assert [error.message for error in Draft201909Validator(schema).iter_errors(made)] == []


def test_it_says_what_readers_may_rely_on(manifest: dict[str, Any]) -> None:
    made, columns = contract(manifest), properties(manifest)
    assert made["id"] == "shop.marts.fct_orders"
    assert made["schema"][0]["dataGranularityDescription"] == "One row per order_id."
    assert columns["order_id"] == {
        "name": "order_id", "logicalType": "integer", "physicalType": "bigint", "required": True,
        "description": "The order_id.", "primaryKey": True, "primaryKeyPosition": 1, "unique": True,
    }  # fmt: skip
    assert columns["customer_id"]["relationships"] == [{"to": "dim_customer.customer_id"}]
    assert columns["state"]["quality"] == [
        {"name": "states_known", "type": "library", "metric": "invalidValues", "mustBe": 0,
         "arguments": {"validValues": ["open", "paid"]}},
    ]  # fmt: skip
    assert (columns["amount"]["logicalType"], columns["amount"]["physicalType"]) == ("number", "numeric(12,2)")
    assert columns["sold_at"]["logicalTypeOptions"] == {"timezone": True}
    assert columns["name"]["classification"] == "identifier"
    assert columns["name"]["customProperties"] == [{"property": "masked", "value": True}]
    assert [rule["name"] for rule in made["schema"][0]["quality"]] == ["amount_not_negative"], "blocking tests only"
    assert [role["role"] for role in made["roles"]] == ["analyst", "analyst_pii"]
    assert made["slaProperties"][0] | {"description": ""} == {
        "property": "latency", "value": 48, "unit": "h", "description": "",
    }  # fmt: skip
    assert made["team"]["members"] == [{"username": "ann@example.com", "role": "owner"}]


def fact(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["nodes"][FACT]
    return found


def rule(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = manifest["nodes"][f"test.shop.{name}"]
    return found


JUDGED: list[tuple[Edit, str, str]] = [
    (lambda m: fact(m)["columns"].pop("amount"), "breaking", "column amount is gone"),
    (lambda m: fact(m)["columns"].update(tax=column("tax", "numeric")), "additive", "column tax is new"),
    (lambda m: fact(m)["columns"]["order_id"].update(data_type="text"), "breaking",
     "column order_id was bigint and is text"),
    (lambda m: fact(m)["columns"]["order_id"].update(constraints=[]), "breaking", "column order_id may be null"),
    (lambda m: fact(m)["columns"]["amount"].update(constraints=[{"type": "not_null"}]), "additive",
     "column amount is never null"),
    (lambda m: fact(m)["config"]["meta"]["declared_indexes"][0].update(columns=["order_id", "state"]), "breaking",
     "a row was one per order_id and is one per order_id, state"),
    (lambda m: fact(m)["columns"]["state"]["config"]["meta"].update(personal="demographic"), "breaking",
     "column state is masked"),
    (lambda m: fact(m)["columns"]["name"]["config"]["meta"].clear(), "additive", "column name is masked no more"),
    (lambda m: rule(m, "states_known")["test_metadata"]["kwargs"].update(values=["open", "paid", "lost"]), "breaking",
     "rule states_known allows lost as well"),
    (lambda m: rule(m, "states_known")["test_metadata"]["kwargs"].update(values=["paid"]), "additive",
     "rule states_known allows fewer values"),
    (lambda m: m["nodes"].pop("test.shop.amount_not_negative"), "breaking", "rule amount_not_negative is gone"),
    (lambda m: rule(m, "amount_not_negative")["test_metadata"]["kwargs"].update(expression="amount > 0"), "breaking",
     "rule amount_not_negative says something else"),
    (lambda m: m["nodes"].update(t=data_test("new", FACT, None)), "additive", "rule new is new"),
    (lambda m: m["nodes"].pop("test.shop.customer_known"), "breaking",
     "values of customer_id may be missing from dim_customer.customer_id"),
    (lambda m: fact(m)["config"]["grants"].update(select=["auditor"]), "breaking", "analyst may read it no more"),
    (lambda m: fact(m)["config"]["grants"].update(select=["analyst", "auditor"]), "additive", "auditor may read it"),
    (lambda m: m["sources"]["source.shop.till.orders"]["freshness"]["warn_after"].update(count=3), "breaking",
     "its data may be 72 hours old"),
    (lambda m: m["sources"]["source.shop.till.orders"]["freshness"]["warn_after"].update(count=1), "additive",
     "its data may be 24 hours old"),
    (lambda m: fact(m)["columns"]["amount"]["config"]["meta"].update(deprecated=LATER), "additive",
     f"column amount will be there until {LATER}"),
    (lambda m: fact(m).update(deprecation_date=LATER), "additive", f"the mart will be there until {LATER}"),
    (lambda m: fact(m).update(description="In other words."), "none", "words only"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "kind", "what"), JUDGED, ids=[what for *_, what in JUDGED])
def test_a_change_is_judged(
    manifest: dict[str, Any], changed: dict[str, Any], edit: Edit, kind: str, what: str
) -> None:
    edit(changed)
    found = differences(contract(manifest), contract(changed))
    assert (judged(found), what in [change.what for change in found]) == (kind, True), found


def test_what_does_not_concern_readers_changes_nothing(manifest: dict[str, Any], changed: dict[str, Any]) -> None:
    rule(changed, "only_a_warning")["test_metadata"]["kwargs"]["expression"] = "amount > 7"
    changed["nodes"].pop("test.shop.indexed")
    fact(changed)["config"]["materialized"] = "table"
    assert differences(contract(manifest), contract(changed)) == []


def test_the_version_says_how_bad_it_is() -> None:
    assert [next_version("1.4.2", kind) for kind in ORDER] == ["1.4.3", "1.5.0", "2.0.0"]


def test_who_uses_a_column(manifest: dict[str, Any], warehouse: Settings) -> None:
    with connect(warehouse) as database:
        for sql in (
            "create schema if not exists marts",
            "create table marts.fct_orders (order_id bigint, amount numeric(12,2))",
            "create view public.by_day as select sum(amount) as total from marts.fct_orders",
            "create view public.how_many as select count(order_id) as orders from marts.fct_orders",
        ):
            execute(database, sql)
        everybody = users(manifest, "fct_orders", "", database)
        of_amount = users(manifest, "fct_orders", "amount", database)
        of_key = users(manifest, "fct_orders", "order_id", database)
    exposures = [User("exposure", "page", "ann@example.com"), User("exposure", "report", "ann@example.com")]
    metrics = [User("metric", "sales", "ann@example.com"), User("metric", "twice", "ann@example.com")]
    views = [User("view", f"public.{name}", "granary") for name in ("by_day", "how_many")]
    assert everybody == [*exposures, *metrics, *views]
    assert of_amount == [*exposures, *metrics, views[0]]
    assert of_key == [*exposures, views[1]], "no metric is made from the key"


def granary(*arguments: str) -> tuple[int, str]:
    """Run the command in this process; return its exit code, 1 for an error that a person reads, and what it says."""
    done = CliRunner().invoke(app, ["contracts", *arguments])
    if done.exception and not isinstance(done.exception, (GranaryError, SystemExit)):
        raise done.exception
    return done.exit_code, done.output + (str(done.exception) if isinstance(done.exception, GranaryError) else "")


def on_file(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "contracts" / "fct_orders.odcs.yaml").read_text()))


def test_contracts_are_written_once_and_then_compared(
    manifest: dict[str, Any], changed: dict[str, Any], project: Has
) -> None:
    folder = project(manifest)
    assert granary("check") == (0, "This project has no contracts yet: `granary contracts write` writes them.\n")
    assert granary("write")[0] == 0
    assert on_file(folder)["version"] == "1.0.0"
    assert granary("check") == (0, "The contracts say what the project says.\n")
    fact(changed)["columns"]["tax"] = column("tax", "numeric(12,2)")
    project(changed)
    code, said = granary("check")
    assert code == 1
    assert "fct_orders: additive (1.0.0 -> 1.1.0)\n  additive: column tax is new\n" in said
    assert granary("write")[0] == 0
    assert on_file(folder)["version"] == "1.1.0"
    assert [entry["what"] for entry in on_file(folder)["customProperties"][0]["value"]] == [
        ["column tax is new"], ["the mart is new"],
    ]  # fmt: skip


def test_a_promise_is_kept_until_its_last_day(manifest: dict[str, Any], changed: dict[str, Any], project: Has) -> None:
    folder = project(manifest)
    granary("write")
    amount = fact(changed)["columns"].pop("amount")
    project(changed)
    code, said = granary("write")
    assert code == 1
    assert "would break what it promises: column amount is gone" in said
    assert "used by metric sales (ann@example.com)" in said
    for day, refused in ((SOON, True), (LATER, False)):
        amount["config"]["meta"]["deprecated"] = day
        project(changed | {"nodes": changed["nodes"] | {FACT: fact(changed) | {
            "columns": fact(changed)["columns"] | {"amount": amount}}}})  # fmt: skip
        code, said = granary("write")
        assert (code, "and readers have 30 days' notice" in said) == (int(refused), refused)
    project(changed)
    assert granary("write")[0] == 1, "it is promised for 60 days more"
    file = folder / "contracts" / "fct_orders.odcs.yaml"
    file.write_text(file.read_text().replace(LATER, OVER))
    code, said = granary("write")
    assert (code, f"column amount is gone, promised until {OVER}" in said) == (0, True)
    assert on_file(folder)["version"] == "2.0.0"


def test_a_reason_breaks_a_promise_and_is_kept(manifest: dict[str, Any], changed: dict[str, Any], project: Has) -> None:
    folder = project(manifest)
    granary("write")
    fact(changed)["columns"].pop("name")
    project(changed)
    assert granary("write", "--breaking", "the law asks for it")[0] == 0
    entry = on_file(folder)["customProperties"][0]["value"][0]
    assert (entry["version"], entry["kind"], entry["reason"]) == ("2.0.0", "breaking", "the law asks for it")


def test_a_branch_is_judged_against_the_one_before_it(
    manifest: dict[str, Any], changed: dict[str, Any], project: Has
) -> None:
    folder = project(manifest)
    granary("write")
    for words in (["init", "-q"], ["add", "contracts"], ["commit", "-q", "-m", "promise"]):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *words], cwd=folder, check=True)
    assert granary("check", "--against", "HEAD")[0] == 0
    fact(changed)["columns"].pop("amount")
    project(changed)
    code, said = granary("check", "--against", "HEAD")
    assert (code, "promises of HEAD are broken: fct_orders" in said) == (1, True)
    granary("write", "--breaking", "nobody reads it")
    assert granary("check", "--against", "HEAD")[0] == 0
    code, said = granary("check", "--against", "nowhere")
    assert (code, "name a commit, a branch or a tag" in said) == (1, True)


@pytest.mark.parametrize(
    "text", ["", "- a", "version: 1", "version: 1.0.0\nschema: []", "{", "version: a.b.c\nschema: [{properties: []}]"]
)
def test_a_file_that_is_no_contract_is_named(manifest: dict[str, Any], project: Has, text: str) -> None:
    folder = project(manifest)
    granary("write")
    (folder / "contracts" / "fct_orders.odcs.yaml").write_text(text)
    code, said = granary("check")
    assert (code, "contracts/fct_orders.odcs.yaml" in said) == (1, True), said


def test_the_contract_of_a_mart_that_is_gone_goes_after_its_last_day(
    manifest: dict[str, Any], changed: dict[str, Any], project: Has
) -> None:
    folder = project(manifest | {"nodes": manifest["nodes"] | {FACT: fact(manifest) | {"deprecation_date": LATER}}})
    granary("write")
    assert on_file(folder)["status"] == "deprecated"
    changed["nodes"].pop(FACT)
    project(changed)
    code, said = granary("write")
    assert (code, f"the mart is gone, promised until {LATER}" in said) == (1, True)
    file = folder / "contracts" / "fct_orders.odcs.yaml"
    file.write_text(file.read_text().replace(LATER, OVER))
    assert granary("write")[0] == 0
    assert not file.exists()
