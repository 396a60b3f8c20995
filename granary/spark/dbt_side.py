"""What dbt does otherwise where the target is Spark: it reaches the warehouse's cluster, in its language."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from granary.spark.cluster import Cluster
from granary.spark.dialect import translated
from granary.spark.session import REMOTE, connect, tell_dbt
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import locked
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.spark.dialect import Columns

TRANSLATED = frozenset({"analysis", "model", "test"})
"""Kinds of nodes whose SQL people write for Postgres."""
BUILD_SECONDS = 3600
"""How long another build of the same tables may take before this one gives up."""


def install() -> None:
    """Have dbt in this process translate what it compiles; done once.

    Raises:
        DbtRuntimeError: Spark is not up.
    """
    from dbt.compilation import Compiler  # noqa: PLC0415 - with dbt only
    from dbt_common.exceptions import DbtRuntimeError  # noqa: PLC0415

    compile_node: Any = Compiler.compile_node
    if getattr(compile_node, "translates", False):
        return

    def compile_and_translate(
        self: Any, node: Any, manifest: Any, extra_context: Any = None, write: bool = True, split_suffix: Any = None
    ) -> Any:
        adapter = self.config.credentials.type
        made = compile_node(self, node, manifest, extra_context, write and adapter != "spark", split_suffix)
        if adapter != "spark":
            return made
        kind = str(getattr(made, "resource_type", ""))
        if kind in TRANSLATED and getattr(made, "language", "sql") == "sql" and (made.compiled_code or "").strip():
            try:
                made.compiled_code = translated(made.compiled_code, types, made.original_file_path)
            except GranaryError as error:
                raise DbtRuntimeError(str(error)) from None
        if write:
            self._write_node(made, split_suffix=split_suffix)
        return made

    compile_and_translate.translates = True  # type: ignore[attr-defined]
    Compiler.compile_node = compile_and_translate  # type: ignore[method-assign]


def reach() -> None:
    """Name the warehouse's cluster to dbt.

    Raises:
        DbtRuntimeError: it is not up.
    """
    from dbt_common.exceptions import DbtRuntimeError  # noqa: PLC0415 - with dbt only

    try:
        tell_dbt(Settings.load())
    except GranaryError as error:
        raise DbtRuntimeError(str(error)) from None


def types(relation: str) -> Columns:
    """Return the columns of a relation on Spark with its types; nothing if it is not there."""
    spark = connect(Cluster.of(Settings.load()))
    if not spark.catalog.tableExists(relation):
        return {}
    return {field.name: field.dataType.simpleString() for field in spark.table(relation).schema.fields}


@contextmanager
def alone() -> Iterator[None]:
    """Hold the lock of those who build on this cluster."""
    from dbt_common.exceptions import DbtRuntimeError  # noqa: PLC0415 - with dbt only

    folder = Cluster.of(Settings.load()).folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with locked(folder / "build.lock", "building on Spark", BUILD_SECONDS):
            yield
    except GranaryError as error:
        raise DbtRuntimeError(str(error)) from None


__all__ = ["REMOTE", "alone", "install", "reach", "types"]
