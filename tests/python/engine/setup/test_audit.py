"""The libraries: every licence is one that may be used, known holes are found in a file, and a release has its bill."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

AUDIT = PROJECT / ".ci" / "audit"
LOCK = """\
# Made by .ci/lock from pyproject.toml.
jinja2==3.1.2 ; sys_platform == 'linux' \\
    --hash=sha256:{a}
Some_Name[extra]==1.0 \\
    --hash=sha256:{b} \\
    --hash=sha256:{a}
Some_Name==1.0 \\
    --hash=sha256:{b}
""".format(a="a" * 64, b="b" * 64)


@pytest.fixture(scope="module")
def audit() -> dict[str, Any]:
    return runpy.run_path(str(AUDIT), run_name="audit")


def test_every_licence_may_be_used() -> None:
    done = subprocess.run([sys.executable, str(AUDIT)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("licences compared with the list: 0 findings.\n")


@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        ("MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("EPL-2.0 OR GPL-2.0-or-later", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("GPL-3.0", False),
        ("MIT AND GPL-3.0", False),
        ("Apache-2.0 AND (GPL-3.0 OR AGPL-3.0)", False),
        ("GNU General Public License v3 (GPLv3)", False),
        ("Proprietary", False),
        ("unknown", False),
    ],
)
def test_a_licence_is_judged(audit: dict[str, Any], said: str, allowed: bool) -> None:
    assert audit["is_allowed"](said) is allowed
    assert audit["forbidden"]({"thing": said}) == ([] if allowed else [f"thing: {said}"])


def test_pins_are_those_of_the_lock(audit: dict[str, Any]) -> None:
    found = [(pin.name, pin.version, len(pin.hashes)) for pin in audit["pins"](LOCK)]
    assert found == [("jinja2", "3.1.2", 1), ("some-name", "1.0", 1)]
    text = (PROJECT / "requirements.lock").read_text()
    pinned = {
        line.partition("==")[0].partition("[")[0] for line in text.splitlines() if "==" in line and line[0] != " "
    }
    assert {pin.name for pin in audit["pins"](text)} == {audit["normal"](name) for name in pinned}


def test_known_holes_are_found_in_the_file_of_osv(audit: dict[str, Any], tmp_path: Path) -> None:
    def hole(name: str, ecosystem: str = "PyPI", **more: Any) -> dict[str, Any]:
        return {"affected": [{"package": {"name": name, "ecosystem": ecosystem}, **more}]}

    def span(**events: str) -> list[dict[str, Any]]:
        return [{"type": "ECOSYSTEM", "events": [{name: version} for name, version in events.items()]}]

    entries = {
        "listed": hole("Jinja2", versions=["3.1.1", "3.1.2"]),
        "between": hole("jinja2", ranges=span(introduced="3.0", fixed="3.1.3")),
        "closed": hole("jinja2", ranges=span(introduced="0", fixed="3.1.2")),
        "last": hole("some.name", ranges=span(introduced="0", last_affected="1.0")),
        "older": hole("some.name", ranges=span(introduced="0", last_affected="0.9")),
        "later": hole("some-name", ranges=span(introduced="1.1")),
        "another": hole("jinja2", ecosystem="npm", versions=["3.1.2"]),
        "taken_back": hole("jinja2", versions=["3.1.2"]) | {"withdrawn": "2026-01-01T00:00:00Z"},
        "of_git": hole("jinja2", ranges=[{"type": "GIT", "events": [{"introduced": "0"}]}]),
    }
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name, entry in entries.items():
            archive.writestr(f"{name}.json", json.dumps(entry | {"id": name, "summary": f"The hole\n{name}."}))
    assert list(audit["holes"](audit["pins"](LOCK), tmp_path / "all.zip")) == [
        "Jinja2 3.1.2: listed: The hole listed.",
        "jinja2 3.1.2: between: The hole between.",
        "some.name 1.0: last: The hole last.",
    ]


def test_a_release_has_a_bill_of_materials(audit: dict[str, Any]) -> None:
    made = audit["bill"](audit["pins"](LOCK), {"jinja2": "BSD-3-Clause"}, "granary-elt", "1.2.3")
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    assert made["metadata"]["component"]["version"] == "1.2.3"
    assert made["components"][0] == {
        "type": "library", "bom-ref": "pkg:pypi/jinja2@3.1.2", "name": "jinja2", "version": "3.1.2",
        "purl": "pkg:pypi/jinja2@3.1.2", "licenses": [{"license": {"name": "BSD-3-Clause"}}],
        "externalReferences": [
            {"type": "distribution", "url": "pkg:pypi/jinja2@3.1.2",
             "hashes": [{"alg": "SHA-256", "content": "a" * 64}]},
        ],
    }  # fmt: skip
    assert [one["name"] for one in made["components"]] == ["jinja2", "some-name"]
