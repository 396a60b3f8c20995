"""`granary deliver` in a project of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.python.support import warm
from tests.python.support.command import GRANARY

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.python.support.delivery_service import Service
    from tests.python.support.rides import Rides

MODULE = """
from granary.deliver.spec import Delivery, HttpApi
from granary.readers.api.spec import Api, ApiKey

DELIVERY = Delivery(
    "rentals_out", "Rentals.", "fleet", ("PARTNER_URL", "PARTNER_KEY"),
    lambda s: HttpApi(Api(s["PARTNER_URL"], auth=ApiKey("X-Key", s["PARTNER_KEY"])), "/rentals"), mart="rentals",
)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project with a delivery, and one that cannot be used."""
    (tmp_path / "deliveries").mkdir()
    (tmp_path / "dbt_project.yml").write_text("name: rides\nvars: {}\n")
    (tmp_path / "profiles.yml").touch()
    (tmp_path / "deliveries" / "__init__.py").touch()
    (tmp_path / "deliveries" / "rentals_out.py").write_text(MODULE)
    (tmp_path / "deliveries" / "broken.py").write_text("import nothing_of_that_name")
    return tmp_path


def test_listing_delivering_and_what_is_refused(rides: Rides, service: Service, project: Path) -> None:
    more = {"GRANARY_PROJECT": str(project), "PARTNER_URL": service.url, "PARTNER_KEY": "partners-key"}

    def run(*arguments: str, command: str = "deliver") -> subprocess.CompletedProcess[str]:
        environment = {**rides.settings.environment(), **more, "COLUMNS": "200"}
        return warm.run(GRANARY, command, *arguments, folder=project, environment=environment)

    listed = run()
    assert (listed.returncode, "never delivered" in listed.stdout) == (0, True), listed.stderr
    assert "delivery broken cannot be used" in listed.stdout
    told = run("rentals_out", "--dry-run")
    assert "rentals_out would send 3 new, 0 changed, 0 deleted to API http://127.0.0.1:" in told.stdout, told.stderr
    service.refuses = lambda row: row["key"]["rental"] == 2
    sent = run("rentals_out", "--json")
    assert sent.returncode == 1, sent.stderr
    assert [(one["rows"], one["refused"]) for one in json.loads(sent.stdout)] == [(3, 1)]
    assert {headers["x-key"] for headers, _ in service.requests} == {"partners-key"}
    assert "the service answered 422" in run("list", "deliveries.rentals_out", command="quarantine").stdout
    service.refuses = lambda _: False
    again = run("replay", "--table", "deliveries.rentals_out", command="quarantine")
    assert (again.returncode, len(service.rows)) == (0, 3), again.stderr
    (state,) = json.loads(run("--json").stdout)
    assert (state["waiting"], state["refused"], state["is_behind"], state["error"]) == (0, 0, False, None)
    wrong = run("rental_out")
    assert (wrong.returncode, "did you mean rentals_out?" in wrong.stderr) == (2, True)
    assert run("--dry-run").returncode == 2
    assert "partners-key" not in "".join(one.stdout + one.stderr for one in (listed, told, sent, again, wrong))
