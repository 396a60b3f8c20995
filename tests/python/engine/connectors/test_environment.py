"""Environments of connectors: locked with hashes, installed as locked, and told from others."""

from __future__ import annotations

import base64
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from granary.readers.connectors import environment
from granary.readers.singer import dlt_source, singer
from granary.warehouse.errors import GranaryError
from tests.python.engine.connectors.conftest import TAP

if TYPE_CHECKING:
    from collections.abc import Callable


def wheel(folder: Path, name: str, version: str, needs: str = "", program: str = "") -> Path:
    """Write the wheel of a package with one module, which is the tap if it has a program."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + (
        f"Requires-Dist: {needs}\n" if needs else ""
    )
    files = {
        f"{module}.py": TAP.read_text() if program else f"version = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if program:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{program} = {module}:main\n"
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for path, text in files.items()
    )
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name_in, text in (files | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
            archive.writestr(name_in, text)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have pip find packages in a folder and nowhere else, and a project and a home of the test's own."""
    for name in ("index", "project", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("GRANARY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(environment, "PROJECT", tmp_path / "project")
    wheel(tmp_path / "index", "tap-shelf", "1.0", needs="shelf-words>=1", program="tap-shelf")
    wheel(tmp_path / "index", "shelf-words", "1.5")
    return tmp_path / "index"


def test_connector_is_installed_as_locked(index: Path) -> None:
    made = environment.install("tap-shelf")
    lock = environment.lock_of("tap-shelf").read_text()
    assert made.pinned == {"tap-shelf": "1.0", "shelf-words": "1.5"}
    assert lock.count(" --hash=sha256:") == 2
    assert "/" not in lock.partition("\n")[2]
    assert environment.program("tap-shelf").is_file()
    assert environment.check("tap-shelf") == []
    assert singer("tap-shelf", {"script": "x"}).streams[0]["tap_stream_id"] == "things"

    wheel(index, "shelf-words", "2.0")  # what is newer than the lock is not taken
    (environment.python("tap-shelf").parents[1] / environment.COMPLETE).unlink()
    assert environment.check("tap-shelf") == [
        "tap-shelf is not installed on this machine: granary connect install tap-shelf"
    ]
    with pytest.raises(GranaryError, match="is not installed on this machine"):
        environment.program("tap-shelf")
    assert environment.install("tap-shelf").pinned == {"tap-shelf": "1.0", "shelf-words": "1.5"}

    wheel(index, "shelf-words", "1.5", needs="tap-shelf")  # the same version with another content
    with pytest.raises(GranaryError, match=r"cannot be installed.*(?i:hash)"):
        environment.install("tap-shelf")
    assert environment.check("tap-shelf") == []

    module = next(environment.python("tap-shelf").parents[1].glob("lib/*/site-packages/shelf_words-1.5.dist-info"))
    module.rename(module.with_name("gone"))
    assert environment.check("tap-shelf") == ["tap-shelf: shelf-words is missing, and 1.5 is locked"]
    environment.remove("tap-shelf")
    assert not environment.lock_of("tap-shelf").exists()
    with pytest.raises(GranaryError, match="connector tap-shelf is not installed"):
        environment.program("tap-shelf")


def test_what_cannot_be_installed_is_said(index: Path) -> None:
    for name, why in (("Tap X", "is no name of a connector"), ("tap-none", "No matching distribution")):
        with pytest.raises(GranaryError, match=why):
            environment.install(name)
    environment.install("shelf", ["tap-shelf"])
    with pytest.raises(GranaryError, match="its programs are tap-shelf"):
        environment.program("shelf")
    environment.lock_of("shelf").write_text("tap-shelf==1.0\n")
    with pytest.raises(GranaryError, match="without a version and a hash"):
        environment.read("shelf")
    assert [path.name for path in (index.parent / "home" / "connectors").iterdir()] == ["shelf"]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: singer("tap-x", {"a": "${GRANARY_A}"}), "wants GRANARY_A, which was not given"),
        (lambda: singer("tap-x", "connectors/none.json"), "cannot be read: No such file"),
        (lambda: singer("", {}), "tap is empty"),
        (lambda: singer("tap-x", {}, silence=0), "silence is over 0"),
        (lambda: singer("tap-x", {}, rows=True), "rows is a whole number"),
        (lambda: singer("tap-x", {}, batch="csv"), "batch is one of jsonl, parquet"),  # type: ignore[arg-type]
        (lambda: dlt_source("sql_database", {}), "MODULE:FUNCTION"),
    ],
)
def test_wrong_arguments_are_said(make: Callable[[], object], why: str) -> None:
    with pytest.raises((GranaryError, ValueError), match=why):
        make()


def test_settings_take_their_places_in_the_configuration() -> None:
    config = {"host": "db", "deep": [{"password": "${GRANARY_A}"}], "url": "x://u:${GRANARY_A}@h", "port": 5432}
    assert singer("tap-x", config, {"GRANARY_A": "secret"}).config == {
        "host": "db",
        "deep": [{"password": "secret"}],
        "url": "x://u:secret@h",
        "port": 5432,
    }
