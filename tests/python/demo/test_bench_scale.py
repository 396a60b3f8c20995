"""The benchmark of history: it goes on where it was, and reports what it measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bench import scale, scale_report, scale_steps
from bench.scale_steps import Measured, Site

if TYPE_CHECKING:
    from pathlib import Path

ASKED = scale.Asked(factors=(1, 4), promotions=0.1, households=None, years=None)
PAGE = "# Cost\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nThe end.\n"
TABLE = """\
# Cost
<!-- measured: begin -->

Measured with all customers and the promotions of 10% of the products, on 2 cores.

| step | times the sample | seconds | rows | s per million rows | times as long | peak MB |
|---|---:|---:|---:|---:|---:|---:|
| load | 1 | 2.0 | 1,000,000 | 2.0 | 1.0 | 100 |
| load | 4 | 7.0 | 4,000,000 | 1.8 | 3.5 | 100 |
| one more day | 1 | 2.0 | 500 | 4,000.0 | 1.0 |  |
| one more day | 4 | 2.5 | 500 | 5,000.0 | 1.2 |  |

![Seconds against the factor, in two panels: what all rows cost, and what a change costs](cost.svg)

<!-- measured: end -->
The end.
"""


class Killed(BaseException):
    """The end of the process, as a step meets it."""


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Steps that note what was done, in the order in which it was; the first build and the day can be killed."""
    found: list[str] = []

    def step(name: str) -> scale_steps.Callable[[Site], Measured]:
        def work(site: Site) -> Measured:
            found.append(f"{site.scale.factor}x {name}")
            if found.count(f"die in {found[-1]}") > found.count("died"):
                found.append("died")
                raise Killed
            return Measured(1.0, 10)

        return work

    def prepare(site: Site) -> None:
        site.settings.home.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(scale_steps, "STEPS", {name: step(name) for name in ("load", "one more day")})
    monkeypatch.setattr(Site, "prepare", prepare)
    monkeypatch.setattr(Site, "granary", lambda _, *words: found.append(" ".join(words)))
    monkeypatch.setattr(scale.server, "down", lambda _: None)
    return found


def test_each_factor_is_measured_once_and_its_warehouse_goes(tmp_path: Path, done: list[str]) -> None:
    for _ in range(2):
        scale.Bench(tmp_path, ASKED).run()
    assert done == ["1x load", "1x one more day", "4x load", "4x one more day"]
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_day_that_was_cut_short_is_measured_anew_after_a_run(tmp_path: Path, done: list[str]) -> None:
    done.append("die in 1x one more day")
    with pytest.raises(Killed):
        scale.Bench(tmp_path, ASKED).run()
    scale.Bench(tmp_path, ASKED).run()
    assert done[1:6] == ["1x load", "1x one more day", "died", "run --json", "1x one more day"]


def test_a_load_that_was_cut_short_begins_in_a_new_warehouse(tmp_path: Path, done: list[str]) -> None:
    done.append("die in 4x load")
    with pytest.raises(Killed):
        scale.Bench(tmp_path, ASKED).run()
    (tmp_path / "4x" / "half").touch()
    scale.Bench(tmp_path, ASKED).run()
    assert done[3:] == ["4x load", "died", "4x load", "4x one more day"]


def test_what_was_measured_otherwise_is_not_mixed_in(tmp_path: Path, done: list[str]) -> None:
    scale.Bench(tmp_path, ASKED).run()
    with pytest.raises(SystemExit, match=r"is of .*'promotions': 0\.1"):
        scale.Bench(tmp_path, scale.Asked((1,), 1.0, None, None))
    assert len(done) == 4


def test_the_report_is_a_table_and_a_picture_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_report.os, "cpu_count", lambda: 2)
    load, day = Measured(2.0, 1_000_000, 100), Measured(2.0, 500)
    steps = {
        "1": {"load": vars(load), "one more day": vars(day)},
        "4": {"load": vars(load) | {"seconds": 7.0, "rows": 4_000_000}, "one more day": vars(day) | {"seconds": 2.5}},
    }
    asked = {"promotions": 0.1, "households": None}
    results = {"asked": asked, "factors": {factor: {"steps": found} for factor, found in steps.items()}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    page = tmp_path / "cost.md"
    page.write_text(PAGE)
    for _ in range(2):
        scale_report.report(tmp_path, page)
        assert page.read_text() == TABLE
    picture = page.with_suffix(".svg").read_text()
    assert picture == (tmp_path / "scale.svg").read_text()
    assert picture.startswith("<svg")
    assert all(f">{words}<" in picture for words in ("What all rows cost", "What a change costs", "one more day"))
