"""A Java that Spark does not work with, or none, is named with what to install."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.spark.cluster import Cluster, address, down, status
from granary.spark.java import java_home
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("", "no Java"),
        ("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n", "Java 1"),
        ("#!/bin/sh\necho 'openjdk version \"25.0.1\"' >&2\n", "Java 25"),
        ("#!/bin/sh\nexit 1\n", "no Java"),
    ],
)
def test_another_java_is_named_with_what_to_install(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    if script:
        java.write_text(script)
        java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(GranaryError, match=f"{said}.*apt-get install openjdk-17-jre-headless"):
        java_home()


def test_java_17_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"17.0.15\" 2025-04-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java_home() == tmp_path


def test_a_cluster_that_is_not_up_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(GranaryError, match=r"Spark is not up .*granary spark up"):
        address(Cluster(tmp_path / "spark"))
    assert status(Cluster(tmp_path / "spark")) == []
    assert down(Cluster(tmp_path / "spark")) == 0
