"""Which engine a new project installs: the one that wrote it, from where that came."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from granary.scaffold.new_project import EXTRAS, requirement
from granary.warehouse.project import DISTRIBUTION

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = '{"url": "file:///srv/granary", "dir_info": {}}'


@pytest.mark.parametrize(
    ("origin", "expected"),
    [(ORIGIN, f"{DISTRIBUTION}[{EXTRAS}] @ file:///srv/granary"), (None, f"{DISTRIBUTION}[{EXTRAS}]==9.8.7")],
    ids=["a checkout", "an index"],
)
def test_the_engine_is_installed_from_where_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: str | None, expected: str
) -> None:
    """`pip install .` leaves an egg-info in the checkout, which knows no origin and is found first there."""
    built = tmp_path / "checkout" / "granary_elt.egg-info"
    installed = tmp_path / "site-packages" / "granary_elt-9.8.7.dist-info"
    for folder, name in ((built, "PKG-INFO"), (installed, "METADATA")):
        folder.mkdir(parents=True)
        (folder / name).write_text(f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: 9.8.7\n")
    if origin:
        (installed / "direct_url.json").write_text(origin)
    monkeypatch.setattr(sys, "path", [str(built.parent), str(installed.parent)])
    assert requirement(None) == expected
