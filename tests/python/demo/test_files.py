from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from demo import environment
from demo.files import put
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path


def test_put_writes_once_and_leaves_what_is_right_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    assert put(path, b"rows") is True
    first = path.stat()
    assert put(path, b"rows") is False
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert put(path, b"sows") is True
    assert path.read_bytes() == b"sows"
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_put_takes_the_place_of_what_a_kill_left_behind(tmp_path: Path) -> None:
    (tmp_path / ".file.tmp").write_bytes(b"ro")
    put(tmp_path / "file", b"rows")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_put_says_why_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(GranaryError, match=r"cannot be written: (Not a directory|File exists)"):
        put(tmp_path / "file" / "below", b"rows")


def test_settings_are_replaced_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "sources.env"
    path.write_text("# ours\nAWS_REGION=eu-1\n\nGRANARY_CRM_URL=old=1\n")
    environment.replace(path, {"GRANARY_CRM_URL": "new?a=b", "GRANARY_POS_LANDING": "/pos"})
    assert path.read_text() == "# ours\nAWS_REGION=eu-1\n\nGRANARY_CRM_URL=new?a=b\nGRANARY_POS_LANDING=/pos\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert environment.read(path)["GRANARY_CRM_URL"] == "new?a=b"
    environment.replace(path, {"GRANARY_CRM_URL": None, "GRANARY_POS_LANDING": None})
    assert path.read_text() == "# ours\nAWS_REGION=eu-1\n\n"


def test_a_file_of_our_settings_only_is_removed_with_them(tmp_path: Path) -> None:
    path = tmp_path / "sources.env"
    environment.replace(path, {"A": "1"})
    environment.replace(path, {"A": None})
    assert not path.exists()


def test_settings_that_were_open_to_others_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "sources.env"
    path.write_text("A=1\n")
    path.chmod(0o644)
    environment.replace(path, {"A": "1"})
    assert path.stat().st_mode & 0o777 == 0o600
