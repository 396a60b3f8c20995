"""Servers of somebody else's, and the small shop's tills in them."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dbt.cli.main import dbtRunner

from granary.load.api import load_table
from granary.warehouse.connection import connect, query
from tests.python.support import external_server
from tests.python.support.business import BUSINESS
from tests.python.support.project.ingestion.till import RECEIPTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from granary.load.api import LoadResult
    from granary.warehouse.settings import Settings
    from tests.python.support.external_server import Server


@contextmanager
def server_of(version: int, **values: str) -> Iterator[Server]:
    """Yield a server of this version, or skip the test with the reason why there is none."""
    with ExitStack() as stack:
        try:
            yield stack.enter_context(external_server.running(version, **values))
        except external_server.CannotBeHadError as reason:
            pytest.skip(f"Postgres {version} cannot be had: {reason}")


def with_tls() -> int:
    """Return a version that is here, whose programs have TLS and make standbys; else skip the test."""
    for version in external_server.WITH_TLS:
        with suppress(external_server.CannotBeHadError):
            external_server.programs(version)
            return version
    pytest.skip("no Postgres with TLS can be had: apt-get install postgresql-15")


@pytest.fixture(scope="module")
def managed() -> Iterator[Server]:
    """Return a server whose logins by TCP say a password; nothing is in it."""
    with server_of(18) as server:
        yield server


@contextmanager
def chosen(settings: Settings) -> Iterator[None]:
    """Have the environment name this warehouse, as a person would."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PG")]:
            patch.delenv(name)
        patch.delenv("GRANARY_ROLE_PREFIX", raising=False)
        for name, value in settings.environment().items():
            patch.setenv(name, value)
        yield


class Tills:
    """A landing zone with receipts of 1.00 and 2.00 a day."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        (folder / "receipts").mkdir(parents=True)
        (folder / "prices").mkdir()

    def put(self, day: str) -> None:
        columns: dict[str, list[Any]] = {
            "member_id": [7, 7],
            "shop_id": [42, 42],
            "receipt_id": [int(day.replace("-", ""))] * 2,
            "article_id": [1, 2],
            "quantity": [1, 1],
            "amount": [1.0, 2.0],
            "discount": [0.0, 0.0],
            "week": [2, 2],
            "paid_at": [datetime.fromisoformat(f"{day}T12:00:00")] * 2,
        }
        table = pa.Table.from_pydict(columns, schema=RECEIPTS.schema)
        pq.write_table(table, self.folder / "receipts" / f"{day}.parquet")

    def load(self) -> LoadResult:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GRANARY_TILL_LANDING", str(self.folder))
            return load_table(self.settings, "till", "receipts")

    def build(self, *arguments: str) -> None:
        """Have dbt build the mart and publish it."""
        done = build(self.folder / "dbt", *arguments)
        assert done.success, done.exception or [one.message for one in getattr(done.result, "results", [])]

    def published(self, role: str = "analyst") -> list[tuple[Any, ...]]:
        """Return what a role reads of the mart."""
        with connect(self.settings, role=role) as connection:
            return query(
                connection,
                "select business_date::text, count(*), sum(amount)::text from marts.fct_receipts group by 1 order by 1",
            )


def build(target: Path, *arguments: str) -> Any:
    """Run `dbt build` of the shop's mart in this process, and return dbt's result."""
    places = ("--project-dir", str(BUSINESS), "--profiles-dir", str(BUSINESS), "--target-path", str(target))
    quiet = ("--log-path", str(target), "--log-level", "error", "--threads", "1", *arguments)
    return dbtRunner().invoke(["build", *places, *quiet, "--select", "fct_receipts"])


def dbt_of_a_shell(target: Path) -> subprocess.Popen[str]:
    """Start a build in a process of its own: one whose lock's session has ended sends itself Ctrl-C."""
    places = ("--project-dir", str(BUSINESS), "--profiles-dir", str(BUSINESS), "--target-path", str(target))
    command = [sys.executable, "-m", "dbt_granary", "build", "--select", "fct_receipts", "--log-path", str(target)]
    return subprocess.Popen([*command, *places], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
