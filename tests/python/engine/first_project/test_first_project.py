"""From a bare machine to marts, figures and documentation of another business, as docs/first-project.md says it."""

from __future__ import annotations

import csv
import http.server
import json
import os
import random
import re
import shlex
import shutil
import sqlite3
import tempfile
import threading
from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from granary.warehouse.project import PROJECT
from tests.python.support.machine import Machine, machine

if TYPE_CHECKING:
    from collections.abc import Iterator

RETAILER = re.compile(
    r"household|retailer|grocer|basket|coupon|campaign|crm\b|\bpos\b|new_york|2017|completejourney", re.IGNORECASE
)
DOCUMENT = PROJECT / "docs" / "first-project.md"
ORDERS, FORGOTTEN = 600, 42
TEN_MINUTES = 600


def walk() -> list[str]:
    """Return every command that the document shows, in order."""
    return re.findall(r"(?m)^ *\$ (.+)$", DOCUMENT.read_text())


def deliver(folder: Path) -> list[tuple[int, datetime, str, Decimal]]:
    """Write the bakery's files; return its orders."""
    folder.mkdir()
    made = random.Random(7)
    moment, orders = datetime(2026, 3, 1, 5, tzinfo=timezone.utc), []
    for number in range(1, ORDERS + 1):
        moment += timedelta(minutes=made.randint(5, 90))
        orders.append((number, moment, made.choice(["counter", "web"]), Decimal(made.randint(100, 9999)) / 100))
    with (folder / "customers.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["customer_id", "email", "joined_on", "town"])
        rows.writerows([n, f"c{n}@example.org", f"2026-01-{n % 28 + 1:02d}", "Ulm"] for n in range(1, 51))
    with (folder / "orders.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["order_id", "customer_id", "ordered_at", "channel", "amount"])
        rows.writerows([n, n % 50 + 1, at.isoformat(), channel, amount] for n, at, channel, amount in orders)
    return orders


@pytest.fixture(scope="module")
def bare() -> Iterator[Machine]:
    """A bare machine; in /tmp and open, since an unprivileged server user has to get to its server's files."""
    folder = Path(tempfile.mkdtemp(prefix="granary-", dir="/tmp"))
    folder.chmod(0o755)
    found = machine(folder)
    try:
        yield found
    finally:
        if (found.place / ".venv/bin/granary").exists():
            found.run(".venv/bin/granary down", check=False)
        shutil.rmtree(folder, ignore_errors=True)


def rows(bare: Machine, sql: str) -> list[list[str]]:
    """Return what the made project's warehouse answers."""
    done = bare.run(f".venv/bin/granary psql --csv --tuples-only --command {shlex.quote(sql)}")
    return list(csv.reader(done.stdout.splitlines()))


@pytest.fixture(scope="module")
def station() -> Iterator[str]:
    """Serve the days of a weather station as long as the project has it for a source; yields the address."""
    days = [{"day": f"2026-03-{n:02d}", "rain_mm": n / 2, "station": "Ulm"} for n in range(1, 31)]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(days).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/days"
        finally:
            server.shutdown()


def test_every_command_of_the_document_works_on_a_bare_machine(
    bare: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    orders = deliver(bare.home / "deliveries")
    kept = [one for one in orders if one[0] % 50 + 1 != FORGOTTEN]
    said = {command: bare.run(command).stdout for command in walk()}
    with capsys.disabled():
        print(f"\n{bare.timings()}")
    assert sum(spent for *_, spent in bare.spent) < TEN_MINUTES
    assert bare.place == bare.home / "shop"

    told = [text for command, text in said.items() if " explain " in command]
    assert f"of {ORDERS} rows: row 7" in told[0]
    days = Counter(at.date().isoformat() for _, at, _, _ in kept)
    amounts = {day: sum(amount for _, at, _, amount in kept if at.date().isoformat() == day) for day in days}
    found = rows(bare, "select business_date, sum(order_count), sum(amount) from marts.daily_orders group by 1")
    assert {day: (int(count), Decimal(amount)) for day, count, amount in found} == {
        day: (days[day], amounts[day]) for day in days
    }
    assert rows(bare, "select count(*), sum(amount) from marts.fct_orders") == [
        [str(len(kept)), str(sum(amount for *_, amount in kept))]
    ]
    assert rows(bare, f"select from raw_bakery.customers where customer_id = {FORGOTTEN}") == []
    page = (bare.home / "pages/index.html").read_text()
    assert "fct_orders: amount by day" in page
    assert f'["fct_orders",{ORDERS},' in page.replace(", ", ",")
    assert (bare.place / "target/static_index.html").exists()


def test_nothing_of_the_sample_is_there(bare: Machine) -> None:
    asked = "import importlib.util as u; print([n for n in ('demo', 'completejourney') if u.find_spec(n)])"
    assert bare.run(f'.venv/bin/python -c "{asked}"').stdout == "[]\n"
    written = bare.run("git ls-files --cached --others --exclude-standard").stdout.split()
    assert "ingestion/bakery.py" in written
    assert "dbt_project.yml" in written
    assert {name: words for name in written if (words := RETAILER.findall((bare.place / name).read_text()))} == {}


def test_the_first_commit_has_all_that_was_made(bare: Machine) -> None:
    assert bare.run("git log --format=%s").stdout == "Begin shop, as `granary init` writes it\n"
    assert bare.run("git status --short --untracked-files=no").stdout == " M dbt_project.yml\n"  # the data subject


def test_a_database_and_an_api_are_added_in_the_same_way(bare: Machine, station: str) -> None:
    till = bare.home / "till.db"
    with sqlite3.connect(till) as database:
        database.execute("create table shifts (shift_id integer primary key, began_at text not null, hours integer)")
        moments = [(n, f"2026-03-{n:02d} 06:00:00", n % 9 + 1) for n in range(1, 29)]
        database.executemany("insert into shifts values (?, ?, ?)", moments)
    bare.run(f".venv/bin/granary add-source till sqlite:///{till}")
    bare.run(f".venv/bin/granary add-source weather {station} --key day")
    bare.run(".venv/bin/granary add-mart fct_shifts --from stg_till__shifts --grain shift_id")
    bare.run(".venv/bin/granary add-mart weather_days --from stg_weather__days --grain day_value")
    bare.run(".venv/bin/granary run")
    assert rows(bare, "select count(*), sum(hours) from marts.fct_shifts") == [["28", str(sum(h for *_, h in moments))]]
    assert rows(bare, "select count(*), max(rain_mm) from marts.weather_days") == [["30", "15.00"]]


def test_a_source_goes_with_all_that_is_kept_of_it(bare: Machine) -> None:
    refused = bare.run(".venv/bin/granary remove-source till", check=False)
    assert "other models are made from till: fct_shifts" in refused.stderr
    assert (bare.place / "ingestion/till.py").exists()
    bare.run(".venv/bin/granary remove-source till --with-dependents")
    left = bare.run("git ls-files --cached --others --exclude-standard").stdout.split()
    assert [name for name in left if "till" in name or "shifts" in name] == []
    assert "TILL" not in (bare.place / ".granary/sources.env").read_text()
    kept = "select count(*), to_regclass('marts.fct_shifts'), to_regnamespace('raw_till') from ops.load_audit"
    assert rows(bare, f"{kept} where source = 'till'") == [["0", "", ""]]
    assert rows(bare, "select count(*) > 0 from ops.load_audit where source = 'bakery'") == [["t"]]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("init shop", "the folder is not empty"),
        ("init my-shop", "cannot be the name of a project"),
        ("init select", "means something else already"),
        ("init granary", "means something else already"),
        ("init /proc/bakery", "cannot be written"),
        ("init deliveries/orders.csv/bakery", "cannot be written"),
        ("init bakery --time-zone Mars/Olympus", "is not a time zone"),
        ("init bakery --first-date yesterday", "is not a date"),
        ("init bakery --engine nowhere.whl", "there is no such engine"),
        ("init bakery --sample", "the sample is not part of an installed engine"),
    ],
)
def test_what_cannot_be_made_is_one_sentence_and_leaves_nothing(bare: Machine, command: str, said: str) -> None:
    before = sorted(os.listdir(bare.home))
    place, bare.place = bare.place, bare.home
    done = bare.run(f"~/granary/bin/granary {command}", check=False)
    bare.place = place
    assert done.returncode != 0
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert sorted(os.listdir(bare.home)) == before


def test_a_mart_that_cannot_be_is_one_sentence(bare: Machine) -> None:
    before = bare.run("git status --short").stdout
    command = ".venv/bin/granary add-mart fct_orders --from stg_bakery__orders --grain order_id"
    done = bare.run(command, check=False)
    assert done.returncode != 0
    assert "there is a model 'fct_orders' already" in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert bare.run("git status --short").stdout == before


def test_a_source_that_is_there_gets_tables_and_columns_and_keeps_its_own(bare: Machine) -> None:
    deliveries, module = bare.home / "deliveries", bare.place / "ingestion/bakery.py"
    for path in (module, bare.place / "models/staging/bakery/_bakery__sources.yml"):  # a test compares the two
        path.write_text(path.read_text().replace("One row per order, from `orders*.csv`.", "What is ordered."))
    (deliveries / "ovens.csv").write_text("oven_id,kilowatt\n1,9.5\n2,12.0\n")
    later = "order_id,customer_id,ordered_at,channel,amount,tip\n9001,1,2026-05-02T08:00:00+00:00,web,12.50,1.50\n"
    (deliveries / "orders_2026-05.csv").write_text(later)
    said = bare.run(".venv/bin/granary add-source bakery").stdout
    assert "orders has gained tip; --columns adds that." in said
    assert "ovens: all 2 rows seen" in said
    assert "What is ordered." in module.read_text()
    assert 'Column("tip"' not in module.read_text()
    assert "Every table of bakery has been added already." in bare.run(".venv/bin/granary add-source bakery").stdout
    bare.run(".venv/bin/granary add-source bakery --columns")
    bare.run(".venv/bin/granary run")
    assert rows(bare, "select order_id, amount, tip from staging.stg_bakery__orders where tip is not null") == [
        ["9001", "12.50", "1.50"]
    ]
    assert rows(bare, "select count(*) from staging.stg_bakery__ovens") == [["2"]]
    assert rows(bare, "select count(*) from marts.fct_orders") == [[str(ORDERS - ORDERS // 50 + 1)]]
    said = bare.run(".venv/bin/granary add-source bakery ~/elsewhere.csv", check=False).stderr
    assert "there is no such file or folder" in said
    bare.run("make lint test")
