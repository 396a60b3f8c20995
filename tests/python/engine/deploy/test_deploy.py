"""deploy/deploy.sh and deploy/rollback.sh, run for real: releases that work, and that fail before and after the switch.

What is cut short: the packages of the lock are not downloaded again for the first release, whose environment finds them
where these tests have them (later releases link to the files of the one before, as on any machine), and no service
manager starts what runs by itself, but `granary serve --detach`.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from granary.scaffold import new_project
from granary.supervisor import state
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.settings import Settings
from tests.python.support.machine import wheel
from tests.python.support.stream_servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDERS = [(number, f"2026-03-{number % 28 + 1:02d}", number * 1.25) for number in range(1, 101)]
TOTAL = 6312.5  # 1.25 * (1 + 2 + ... + 100)
MART = "models/marts/core/fct_orders.sql"
PYTHON = f"""#!{sys.executable}
import os, subprocess, sys
if sys.argv[1:3] != ["-m", "venv"]:
    os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
subprocess.run([{sys.executable!r}, "-m", "venv", "--without-pip", sys.argv[3]], check=True)
own = subprocess.run(
    [sys.argv[3] + "/bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
    check=True, capture_output=True, text=True,
).stdout.strip()
with open(own + "/shared.pth", "w") as file:
    file.write({sysconfig.get_path("purelib")!r} + "\\n")
"""
"""A Python whose environments have the packages of this one."""


@dataclass(eq=False)
class Reader(threading.Thread):
    """An analyst who reads without a pause: the sums that were seen, in order, and what went wrong."""

    settings: Settings
    seen: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    ends: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        while not self.ends.wait(0.05):
            began = time.monotonic()
            try:
                with connect(self.settings, role="analyst") as connection:
                    ((total,),) = query(connection, "select sum(amount) from marts.fct_orders")
            except (GranaryError, psycopg.Error) as error:
                self.wrong.append(str(error))
                continue
            self.slowest = max(self.slowest, time.monotonic() - began)
            if not self.seen or self.seen[-1] != float(total):
                self.seen.append(float(total))


@dataclass
class Host:
    """A machine with a clone of a project, and the folder of one environment."""

    project: Path
    root: Path
    python: Path

    @property
    def settings(self) -> Settings:
        home = self.root / "home"
        return Settings(home=home, external=False, host=str(home / "run"))

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GRANARY", "PG", "PYTHON"))}
        return kept | {
            "PIP_NO_INDEX": "1",
            "DBT_PACKAGE_HUB_URL": "http://127.0.0.1:9/",
            "GRANARY_MIN_DISK_MB": "500",
            "GIT_CONFIG_GLOBAL": os.devnull,
            **more,
        }

    def run(self, *command: str, folder: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=folder or self.project,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            check=False,
        )

    def deploy(self, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run("deploy/deploy.sh", "test", *options, folder=None, **more)

    def must(self, *command: str, folder: Path | None = None, **more: str) -> str:
        done = self.run(*command, folder=folder, **more)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def commit(self, words: str) -> str:
        """Commit everything; return the name that the release will have."""
        self.must("git", "add", "--all")
        self.must("git", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "-m", words)
        return self.must("git", "describe", "--always").strip()

    def factor(self, number: int) -> None:
        """Have the mart show so many times what was ordered."""
        path = self.project / MART
        lines = path.read_text().splitlines()
        (at,) = (n for n, line in enumerate(lines) if line.strip().rstrip(",").endswith("amount"))
        lines[at] = (
            f"    cast(amount * {number} as numeric(18, 2)) as amount,"
            if lines[at].endswith(",")
            else (f"    cast(amount * {number} as numeric(18, 2)) as amount")
        )
        path.write_text("\n".join(lines) + "\n")

    def total(self) -> float:
        with connect(self.settings, role="analyst") as connection:
            return float(query(connection, "select sum(amount) from marts.fct_orders")[0][0])

    def at_work(self) -> tuple[str, bool]:
        """Return the release that `current` leads to, and whether all its services are up."""
        services = state.read(self.settings)
        return (self.root / "current").resolve().name, bool(services) and all(one.status == "up" for one in services)

    def audit(self) -> list[tuple[str, str, str]]:
        lines = [json.loads(line) for line in (self.root / "deployments.log").read_text().splitlines()]
        return [(line["action"], line["release"], line["result"]) for line in lines]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A clone of a project with one source and one mart."""
    base = Path(tempfile.mkdtemp(prefix="granary-", dir="/tmp"))
    base.chmod(0o755)
    python = base / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    orders = base / "deliveries" / "orders.csv"
    orders.parent.mkdir()
    with orders.open("w", newline="") as file:
        csv.writer(file).writerows([("order_id", "ordered_on", "amount"), *ORDERS])
    made = new_project.plan(base / "shop", "UTC", date(2026, 1, 1), wheel(base))
    new_project.make(made)
    host = Host(made.folder, base / "test", python)
    (host.project / "deploy/environments/test.env").write_text(
        f"GRANARY_ROOT={host.root}\nGRANARY_PORT={free_port()}\nGRANARY_KEEP=3\nDBT_TARGET=local\n"
    )
    (host.project / "backup.yml").write_text(f"to: {base / 'backups'}\n")
    host.must("deploy/install.sh", PYTHON=str(python))
    home = str(host.root / "home")
    host.must(".venv/bin/granary", "add-source", "shop", str(orders.parent), GRANARY_HOME=home)
    words = ("fct_orders", "--from", "stg_shop__orders", "--grain", "order_id")
    host.must(".venv/bin/granary", "add-mart", *words, GRANARY_HOME=home)
    try:
        yield host
    finally:
        for command in (("serve", "--stop"), ("down",)):
            host.run(".venv/bin/granary", *command, GRANARY_HOME=home)
        shutil.rmtree(base, ignore_errors=True)


def test_what_cannot_be_deployed_is_refused_before_anything_is_done(host: Host) -> None:
    assert "usage: deploy/deploy.sh ENV" in host.run("deploy/deploy.sh").stderr
    assert "usage: deploy/deploy.sh ENV" in host.deploy("--quickly").stderr
    refused = host.deploy()
    assert (refused.returncode, "uncommitted changes: a release is a commit" in refused.stderr) == (1, True)
    host.commit("A shop")
    assert "there is no deploy/environments/nowhere.env" in host.run("deploy/deploy.sh", "nowhere").stderr
    assert "MB of disk are too little" in host.deploy(GRANARY_MIN_DISK_MB="999999999").stderr
    assert not (host.root / "current").exists()
    assert list((host.root / "releases").iterdir()) == []


@pytest.mark.long
def test_releases_follow_each_other_and_those_that_fail_leave_the_last_good_one(host: Host) -> None:
    first = (
        host.commit("Begin")
        if host.must("git", "status", "--short")
        else host.must("git", "describe", "--always").strip()
    )
    done = host.deploy(PYTHON=str(host.python))
    assert done.returncode == 0, done.stdout + done.stderr
    host.must(".venv/bin/granary", "run", folder=host.root / "current", GRANARY_HOME=str(host.root / "home"))
    assert host.total() == TOTAL
    reader = Reader(host.settings)
    reader.start()
    try:
        _follow(host, first)
    finally:
        reader.ends.set()
        reader.join()
    print(f"the slowest of an analyst's looks took {reader.slowest:.2f} s")
    assert reader.wrong == []
    assert reader.seen == [TOTAL, 2 * TOTAL, 4 * TOTAL, 2 * TOTAL]


def _follow(host: Host, first: str) -> None:
    host.factor(2)
    second = host.commit("Count twice")
    done = host.deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "backing up" in done.stdout
    assert any((host.root.parent / "backups").iterdir())
    assert host.at_work() == (second, True)
    assert host.total() == 2 * TOTAL
    assert "is at work already" in host.deploy().stderr
    again, before = ((host.root / "releases" / one / ".venv/bin/activate").stat().st_ino for one in (first, second))
    assert again == before, "the packages of the second release are links to those of the first"

    host.factor(3)
    never = host.project / "tests/dbt/never.sql"
    never.parent.mkdir(parents=True, exist_ok=True)
    never.write_text("select order_id from {{ ref('fct_orders') }}\n")
    third = host.commit("Count three times, and test what never holds")
    failed = host.deploy("--no-backup")
    assert failed.returncode != 0
    assert f"failed while building aside: {second} stays at work" in failed.stdout
    assert host.at_work() == (second, True)
    assert host.total() == 2 * TOTAL

    never.unlink()
    host.factor(4)
    smoke = host.project / "deploy/smoke.sh"
    smoke.write_text("#!/bin/sh\necho 'the till does not answer' >&2\nexit 1\n")
    smoke.chmod(0o755)
    fourth = host.commit("Count four times, and find the till silent")
    failed = host.deploy("--no-backup")
    assert failed.returncode != 0
    assert "the till does not answer" in failed.stderr
    assert f"failed while checking what is at work: rolling back to {second}" in failed.stdout
    assert host.at_work() == (second, True)
    assert host.total() == 2 * TOTAL
    assert host.audit() == [
        ("deploy", first, "ok"),
        ("deploy", second, "ok"),
        ("deploy", third, "failed while building aside"),
        ("deploy", fourth, "failed while checking what is at work"),
        ("rollback", second, "ok"),
    ]
