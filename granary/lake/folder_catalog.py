"""A catalogue of one Iceberg table in a folder: `metadata/vN.metadata.json` and `version-hint.text`, as Hadoop's.

Spark (`type = hadoop`), DuckDB (`iceberg_scan('FOLDER')`) and pyiceberg (`StaticTable.from_metadata`) find it by its
path. The metadata file is the commit: a reader of the hint sees it a moment later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from granary.readers.tables.place import package

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.readers.files.destination import Destination

HINT = "version-hint.text"


class FolderCatalog:
    """What pyiceberg asks of a catalogue to make, load and commit the table of a folder."""

    def __init__(self, location: str, files: Destination, options: Mapping[str, str]) -> None:
        """Remember the folder, and what its files are opened with."""
        self._location, self._files, self.properties = location, files, dict(options)
        self.name = "folder"

    def supports_server_side_planning(self) -> bool:
        """Say that no server plans scans."""
        return False

    def create_namespace_if_not_exists(self, name: str) -> None:
        """Do nothing: a folder has no namespace."""

    def create_table(
        self, name: tuple[str, str], schema: Any, partition_spec: Any, properties: Mapping[str, str]
    ) -> Any:
        """Return an empty table that is written with its first snapshot."""
        metadata = package("pyiceberg.table.metadata").new_table_metadata(
            schema=schema,
            partition_spec=partition_spec,
            sort_order=package("pyiceberg.table.sorting").UNSORTED_SORT_ORDER,
            location=self._location,
            properties=dict(properties),
        )
        return self._table(name, metadata, 0)

    def load_table(self, name: tuple[str, str]) -> Any:
        """Return the table at its newest version.

        Raises:
            NoSuchTableError: the folder has none.
        """
        version = self._version()
        if not version:
            raise package("pyiceberg.exceptions").NoSuchTableError(self._location)
        with self._files.reading(_metadata(version)) as file:
            text = file.read().decode()
        return self._table(name, package("pyiceberg.table.metadata").TableMetadataUtil.parse_raw(text), version)

    def commit_table(self, table: Any, requirements: tuple[Any, ...], updates: tuple[Any, ...]) -> Any:
        """Write the next version of the metadata, and then the hint."""
        version = int(table.metadata_location.rpartition("/v")[2].partition(".")[0])
        base = table.metadata if version else None
        for requirement in requirements:
            if base is not None or type(requirement).__name__ == "AssertCreate":
                requirement.validate(base)
        metadata = package("pyiceberg.table.update").update_table_metadata(table.metadata, updates)
        with self._files.writing(_metadata(version + 1)) as file:
            file.write(metadata.model_dump_json().encode())
        with self._files.writing(HINT) as file:
            file.write(str(version + 1).encode())
        response = package("pyiceberg.table").CommitTableResponse
        return response(metadata=metadata, metadata_location=self._path(version + 1))

    def _delete_old_metadata(self, io: Any, base: Any, metadata: Any) -> None:
        """Keep the metadata of earlier versions, which pyiceberg would delete by a property: they are small."""

    def _table(self, name: tuple[str, str], metadata: Any, version: int) -> Any:
        path = self._path(version)
        io = package("pyiceberg.io").load_file_io(self.properties, path)
        return package("pyiceberg.table").Table(name, metadata, path, io, self)

    def _path(self, version: int) -> str:
        return f"{self._location}/metadata/{_metadata(version)}"

    def _version(self) -> int:
        """Return the newest version: the hint's, or later ones whose hint a killed process did not write."""
        try:
            with self._files.reading(HINT) as file:
                version = int(file.read())
        except FileNotFoundError:
            version = 0
        names = self._files.names("")
        while _metadata(version + 1) in names:
            version += 1
        return version


def _metadata(version: int) -> str:
    return f"v{version}.metadata.json"
