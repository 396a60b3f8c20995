"""requirements.lock: whole, hashed, without addresses, and in step with pyproject.toml."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from granary.warehouse.project import PROJECT

tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
LOCK = (PROJECT / "requirements.lock").read_text()
PINS = [Requirement(line.removesuffix(" \\")) for line in LOCK.splitlines() if re.match(r"\w", line)]
PYTHONS = ("3.10.1", "3.11.7", "3.12.1", "3.13.0")
PLATFORMS = ("linux", "darwin")


def pins_for(python: str, platform: str) -> dict[str, list[Requirement]]:
    """The pins that pip takes on this Python and platform, by name."""
    there = {"python_full_version": python, "python_version": python.rpartition(".")[0], "sys_platform": platform}
    chosen: dict[str, list[Requirement]] = {}
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate({**there}):
            chosen.setdefault(canonicalize_name(pin.name), []).append(pin)
    return chosen


def wanted(python: str, platform: str) -> list[Requirement]:
    """Return what the project asks for there: some things exist for Linux, or for newer Pythons, only."""
    project: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in extras.values() for line in extra)]
    required = [Requirement(line) for line in lines]
    there = {"python_full_version": python, "sys_platform": platform}
    return [one for one in required if not one.marker or one.marker.evaluate({**there})]


def test_it_names_no_address() -> None:
    assert "://" not in LOCK
    assert "index" not in re.sub(r"(?m)^ *# .*$", "", LOCK)


def test_every_pin_is_one_released_version_with_hashes() -> None:
    assert len(PINS) > 100
    for pin in PINS:
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        assert not re.search(r"a|b|rc|dev", specifier.version), f"{pin} is a pre-release"
    blocks = re.split(r"(?m)^(?=\w)", LOCK)[1:]
    assert len(blocks) == len(PINS)
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_what_granary_stands_in_for_is_not_installed() -> None:
    # update-checker calls out at every start of mf, halo is not a wheel: granary/cli/mf.py.
    assert {"dbt-metricflow", "metricflow"} <= {pin.name for pin in PINS}
    assert not {"halo", "update-checker"} & {canonicalize_name(pin.name) for pin in PINS}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_it_fulfils_the_project_on_each_python(python: str, platform: str) -> None:
    pins = pins_for(python, platform)
    for requirement in wanted(python, platform):
        for pin in pins[canonicalize_name(requirement.name)]:
            (specifier,) = pin.specifier
            assert requirement.specifier.contains(specifier.version), f"{requirement} but {pin}: run .ci/lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_a_pin_with_extras_is_there_without_them_too(python: str) -> None:
    # pip 23.0 of Debian 12 looks for the newest plain `gql` otherwise, and stops because that has no hash.
    several = {name: pins for name, pins in pins_for(python, "linux").items() if any(pin.extras for pin in pins)}
    assert "gql" in several
    for pins in several.values():
        assert sorted(bool(pin.extras) for pin in pins) == [False, True]
        assert len({str(pin.specifier) for pin in pins}) == 1
