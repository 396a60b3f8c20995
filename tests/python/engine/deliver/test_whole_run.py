"""`granary run` in a project with a `deliveries/` folder: from files to another system, day by day, and back out."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from tests.python.support.delivery_service import service as run_service
from tests.python.support.made_project import make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.settings import Settings
    from tests.python.support.delivery_service import Service
    from tests.python.support.made_project import MadeProject

MODULE = '''
"""Receipts, for the members' shop."""

from granary.deliver.spec import Delivery, HttpApi
from granary.readers.api.spec import Api

DELIVERY = Delivery(
    name="receipts_out",
    description="Receipts, for the members' shop.",
    owner="shops",
    settings=("MEMBERS_SHOP",),
    target=lambda settings: HttpApi(Api(settings["MEMBERS_SHOP"]), "/receipts"),
    mart="fct_receipts",
)
'''
DEFINITIONS = """
import json
from orchestration.definitions import defs
made = defs()
graph = made.resolve_asset_graph()
(key,) = [key for key in graph.get_all_asset_keys() if key.path[0] == "deliveries"]
job = made.resolve_job_def("everything")
print(json.dumps({
    "key": key.path,
    "follows": sorted(parent.path for parent in graph.get(key).parent_keys),
    "owners": sorted(graph.get(key).owners),
    "checks": sorted(check.name for check in graph.asset_check_keys if check.asset_key == key),
    "in_job": key in job.asset_layer.executable_asset_keys,
}))
"""
HEAD = "receipt_id,member_id,amount,paid_on\n"
FIRST = HEAD + "".join(f"{n},{n % 3 + 1},{n}.50,2026-03-01\n" for n in range(1, 7))
SECOND = HEAD + "7,2,7.50,2026-03-02\n8,3,8.50,2026-03-02\n"
FORGOTTEN = 3
"""A member, who paid the receipts 2 and 5, and 8."""


def receipts(told: list[tuple[str, str]]) -> list[tuple[str, int]]:
    """Return operations and receipts, of what a service was told."""
    return sorted((op, json.loads(key)["receipt_id"]) for op, key in told)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Return a service that refuses receipt 4."""
    with run_service() as found:
        found.refuses = lambda row: row["key"]["receipt_id"] == 4
        yield found


@pytest.fixture(scope="module")
def shop(
    make_warehouse: Callable[[str], Settings], tmp_path_factory: pytest.TempPathFactory, service: Service
) -> MadeProject:
    """Return a project with a source, a mart and a delivery; nothing of it has run yet."""
    folder = tmp_path_factory.mktemp("shop")
    made = make(folder, make_warehouse("whole_run"), "shop", date(2026, 1, 1))
    made.more = {"MEMBERS_SHOP": service.url}
    landing = folder / "landing"
    landing.mkdir()
    (landing / "receipts_2026-03-01.csv").write_text(FIRST)
    added = made.granary(
        *("add-source", "till", str(landing), "--key", "receipts=receipt_id", "--subject", "member=member_id")
    )
    assert added.returncode == 0, added.stderr
    mart = made.granary(
        *("add-mart", "fct_receipts", "--from", "stg_till__receipts", "--grain", "receipt_id", "--date", "paid_on")
    )
    assert mart.returncode == 0, mart.stderr
    (folder / "deliveries").mkdir()
    (folder / "deliveries" / "__init__.py").touch()
    (folder / "deliveries" / "receipts_out.py").write_text(MODULE)
    return made


def test_the_definitions_have_it_downstream_of_its_mart(shop: MadeProject) -> None:
    done = shop.run("-c", DEFINITIONS)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "key": ["deliveries", "receipts_out"], "follows": [["marts", "fct_receipts"]], "owners": ["team:shops"],
        "checks": ["every_row_delivered"], "in_job": True,
    }  # fmt: skip


def test_day_by_day_and_back_out(shop: MadeProject, service: Service) -> None:
    first = shop.granary("run")
    assert first.returncode == 0, first.stdout + first.stderr
    assert receipts(service.events) == [("insert", n) for n in (1, 2, 3, 5, 6)]
    assert service.rows['{"receipt_id": 1}']["paid_on"] == "2026-03-01"
    (incident,) = incidents(shop)
    assert (incident["cause"], incident["owner"]) == ("deliveries.receipts_out", "shops")
    assert shop.sql("select relation_of.published, batches.publish_id from ops.delivery_batches as batches,"
                    " (select max(publish_id) as published from ops.publishes) as relation_of") == [(1, 1)]  # fmt: skip

    before = len(service.events)
    (shop.folder / "landing" / "receipts_2026-03-02.csv").write_text(SECOND)
    second = shop.granary("run")
    assert second.returncode == 0, second.stdout + second.stderr
    assert receipts(service.events[before:]) == [("insert", 7), ("insert", 8)]

    service.refuses = lambda _: False
    replayed = shop.granary("quarantine", "replay", "--table", "deliveries.receipts_out")
    assert "deliveries.receipts_out: 1 landed, 0 refused" in replayed.stdout, replayed.stderr
    assert receipts(service.events[-1:]) == [("insert", 4)]
    looked = shop.granary("alerts", "send")
    assert incidents(shop) == [], looked.stdout + looked.stderr

    forgotten = shop.granary("forget", "member", str(FORGOTTEN), "--yes")
    assert forgotten.returncode == 0, forgotten.stderr
    assert "until `granary deliver receipts_out` has them deleted there" in forgotten.stdout
    before = len(service.events)
    told = shop.granary("deliver", "receipts_out")
    assert told.returncode == 0, told.stdout + told.stderr
    assert receipts(service.events[before:]) == [("delete", 2), ("delete", 5), ("delete", 8)]
    assert {row["member_id"] for row in service.rows.values()} == {1, 2}
    assert shop.sql("select count(*), count(payload) from ops.delivered_rows") == [(5, 0)]
    assert service.changed == []


def incidents(shop: MadeProject) -> list[dict[str, Any]]:
    """Return what is open and of the delivery."""
    listed = shop.granary("incidents", "list", "--json")
    found: list[dict[str, Any]] = json.loads(listed.stdout)
    return [one for one in found if one["cause"].startswith("deliveries.")]
