"""Analysts read the marts while they are rebuilt: no query fails, waits, or sees one mart before and another after."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.python.pipeline.conftest import Pipeline


def test_slice(pipeline: Pipeline) -> None:
    pipeline.day(date(2017, 3, 12))
    print(pipeline.query("select * from ops.publishes"))
    print(pipeline.query("select * from ops.published_months"))
    print(pipeline.query("select * from ops.unpublished"))
    print(pipeline.query("select * from ops.publish_holds"))
    print(pipeline.marts())
    assert 0
