"""What holds of this project as long as it works: its sources can be used, dbt knows them, and its definitions load."""

from granary.dbt import manifest
from granary.scaffold.declared import differences
from granary.sources.discovery import BROKEN, SOURCES
from granary.warehouse.settings import Settings
from orchestration.definitions import defs


def test_every_source_can_be_used() -> None:
    assert {name: str(error) for name, error in BROKEN.items()} == {}
    assert all(table.columns for source in SOURCES.values() for table in source.tables)


def test_what_dbt_says_of_the_sources_is_what_their_contracts_say() -> None:
    assert differences(SOURCES.values(), manifest.load(manifest.prepare(Settings.load()))) == []


def test_definitions_load_with_every_table_of_every_source() -> None:
    keys = {tuple(key.path) for key in defs().resolve_asset_graph().get_all_asset_keys()}
    assert {(source.name, table.name) for source in SOURCES.values() for table in source.tables} <= keys
