"""Writes the files of a small bicycle rental: 20 CSV files, as its different offices deliver them.

    python docs/engine/examples/bike_rental.py FOLDER

Always the same ones. Some have semicolons and an old encoding, some have blanks in their headers, postcodes begin with
zeros, and rentals and payments come as a file per month.
"""

# ruff: noqa: DTZ001, S311 - the terminals know no time zone, and sample data need no secrets
from __future__ import annotations

import csv
import random
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

Table = tuple[list[str], list[list[object]]]
ZONES = ("Altstadt", "Hafen", "Messe", "Südpark", "Universität")
TARIFFS = ("casual", "day pass", "subscriber")
STATIONS, BIKES, MEMBERS = range(101, 161), range(1, 401), range(5001, 5301)
RETIRED, NOT_RETURNED = 0.05, 0.01
"""Shares of the bikes that are retired, and of the rentals that have no end."""


def day(pick: random.Random, first: date, days: int) -> date:
    """Return a day out of so many."""
    return first + timedelta(days=pick.randrange(days))


def offices(pick: random.Random) -> dict[str, Table]:
    """Return the files that are delivered once: those of the city have semicolons and umlauts."""
    zones = [[zone, f"0{4100 + number}"] for number, zone in enumerate(ZONES)]
    depots = [[f"D{number}", f"Gleisstraße {number}", "04177", 40 * number] for number in range(1, 5)]
    tariffs = [["casual", "0.25", "1.00"], ["day pass", "0.05", "0.00"], ["subscriber", "0.10", "0.00"]]
    return {
        "zones.csv": (["Zone", "Postcode"], [list(row) for row in zones]),
        "depots.csv": (["depot", "street", "postcode", "capacity"], depots),
        "tariffs.csv": (["tariff", "price per minute", "unlock fee"], [list(row) for row in tariffs]),
        "stations.csv": (
            ["Station ID", "Name", "Zone", "Latitude", "Docks", "Opened"],
            [station(pick, n) for n in STATIONS],
        ),
        "bikes.csv": (["bike_id", "model", "frame size", "electric", "retired_on"], [bike(pick, n) for n in BIKES]),
        "members.csv": (
            ["Member ID", "First Name", "E-Mail", "Birth Date", "Tariff"],
            [member(pick, n) for n in MEMBERS],
        ),
        "repairs.csv": (["repair_no", "bike_id", "part", "minutes", "Date"], [repair(pick, n) for n in range(1, 301)]),
        "weather.csv": (["day", "rain_mm", "high", "low"], [weather(pick, n) for n in range(182)]),
    }


def station(pick: random.Random, number: int) -> list[object]:
    """Return a station."""
    docks, opened = pick.choice((12, 18, 24)), day(pick, date(2019, 1, 1), 1500)
    return [number, f"Station {number}", pick.choice(ZONES), f"{51.3 + pick.random() / 10:.5f}", docks, opened]


def bike(pick: random.Random, number: int) -> list[object]:
    """Return a bicycle; most are not retired."""
    retired = date(2024, 5, 1) if pick.random() < RETIRED else ""
    kind = pick.choice(("City", "Cargo", "Tour")), pick.choice(("S", "M", "L")), pick.choice(("true", "false"))
    return [number, *kind, retired]


def member(pick: random.Random, number: int) -> list[object]:
    """Return a member, with personal data."""
    name, born = pick.choice(("Ada", "Ben", "Cem", "Dörte")), day(pick, date(1960, 1, 1), 16_000)
    return [number, name, f"member{number}@example.org", born, pick.choice(TARIFFS)]


def repair(pick: random.Random, number: int) -> list[object]:
    """Return a repair."""
    part = pick.choice(("brake", "chain", "light", "tyre"))
    return [f"R-{number:05d}", pick.choice(BIKES), part, pick.randrange(5, 90), day(pick, date(2024, 1, 1), 180)]


def weather(pick: random.Random, number: int) -> list[object]:
    """Return a day's weather."""
    rain, high, low = max(0.0, pick.gauss(1, 3)), pick.gauss(12, 8), pick.gauss(4, 6)
    return [date(2024, 1, 1) + timedelta(days=number), f"{rain:.1f}", f"{high:.1f}", f"{low:.1f}"]


def month(pick: random.Random, number: int) -> dict[str, Table]:
    """Return the files of a month of 2024: 500 rentals, and what was paid for them."""
    rentals: list[list[object]] = []
    payments: list[list[object]] = []
    for rental in range(500 * (number - 1) + 1, 500 * number + 1):
        start, minutes = (
            datetime(2024, number, 1) + timedelta(seconds=pick.randrange(28 * 86_400)),
            pick.randrange(2, 180),
        )
        end = "" if pick.random() < NOT_RETURNED else start + timedelta(minutes=minutes)
        way = pick.choice(STATIONS), pick.choice(STATIONS), pick.choice(("app", "card", "desk"))
        rentals.append([rental, pick.choice(BIKES), pick.choice(MEMBERS), start, end, *way])
        payments.append([f"P{rental:06d}", rental, f"{1 + minutes * 0.1:.2f}", "EUR", f"{start.isoformat()}+01:00"])
    head = ["Rental ID", "Bike", "Member ID", "Start", "End", "From Station", "To Station", "Channel"]
    return {
        f"rentals_2024-{number:02d}.csv": (head, rentals),
        f"payments_2024-{number:02d}.csv": (["payment", "Rental ID", "amount", "currency", "paid_at"], payments),
    }


def make(folder: Path) -> None:
    """Write the 20 files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pick = random.Random(2024)
    tables = offices(pick)
    for number in range(1, 7):
        tables |= month(pick, number)
    for name, (header, rows) in tables.items():
        of_the_city = name in ("zones.csv", "depots.csv")
        with (folder / name).open("w", newline="", encoding="cp1252" if of_the_city else "utf-8") as file:
            writer = csv.writer(file, delimiter=";" if of_the_city else ",")
            writer.writerow(header)
            writer.writerows(rows)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
