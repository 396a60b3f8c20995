"""The worked example of docs/engine/deliver.md, run as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import granary
from granary.deliver import deliver as room
from granary.deliver.discovery import delivery_of
from granary.sources.discovery import specs

if TYPE_CHECKING:
    import pytest

    from tests.python.support.rides import Rides

PAGE = Path(granary.__file__).parents[1] / "docs" / "engine" / "deliver.md"


def test_the_example_delivers(rides: Rides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    folder = tmp_path / "example_deliveries"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "rentals_out.py").write_text(code)
    (folder / "broken.py").write_text("DELIVERY = 1")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PARTNER_FOLDER", str(tmp_path / "partner"))
    found, broken = specs(folder.name, [str(folder)], delivery_of, "delivery", "deliveries")
    assert str(broken["broken"]).startswith("delivery broken cannot be used: the module has no DELIVERY")
    done = room.deliver(rides.settings, found["rentals_out"])
    assert (tmp_path / "partner" / f"rentals_{done.publish_id}.csv").read_text() == (
        "rental,rider,business_date,bikes,price\n"
        "1,masked,2021-01-05,1,4.50\n2,masked,2021-01-31,2,9.00\n3,masked,2021-02-01,1,4.50\n"
    )
