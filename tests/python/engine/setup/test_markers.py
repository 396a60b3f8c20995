"""The table that marks tests by what they need names files and folders that there are."""

from __future__ import annotations

import pytest

from tests.python.conftest import HERE, KINDS


@pytest.mark.parametrize("name", [name for name in KINDS if (HERE / name.partition("/")[0]).is_dir()])
def test_what_is_marked_is_there(name: str) -> None:
    assert (HERE / name).is_dir() or (HERE / f"{name}.py").is_file()
