"""The lists of docs/metrics.md, made from dbt's manifest; `python -m tests.python.support.documents` writes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granary.dbt import manifest as dbt_manifest
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.warehouse.settings import Settings

PAGE = PROJECT / "docs" / "metrics.md"
BETWEEN = re.compile(r"(?<=<!-- made from the definitions -->\n)[\s\S]*?(?=<!-- until here -->)")


def tables(settings: Settings) -> str:
    """Return the metrics of each file, by what they can be sliced by, and a table of the dimensions."""
    manifest = dbt_manifest.load(dbt_manifest.prepare(settings))
    models = {name: _dimensions(model) for name, model in manifest["semantic_models"].items()}
    dimensions = {
        entity: names
        for name, model in manifest["semantic_models"].items()
        if (entity := _primary(model)) and (names := models[name])
    }
    areas: dict[str, dict[str, list[str]]] = {}
    for metric in sorted(manifest["metrics"].values(), key=lambda metric: str(metric["name"])):
        area = Path(metric["original_file_path"]).stem
        sets = [_entities(manifest["semantic_models"][name]) for name in _models(manifest, metric)]
        by = ", ".join(sorted(set.intersection(*sets) & set(dimensions)))
        areas.setdefault(area, {}).setdefault(by, []).append(f"- `{metric['name']}`: {metric['description']}")
    parts = [
        "\n\n".join((f"### {area.capitalize()}", *(f"By {by}:\n\n" + "\n".join(of) for by, of in groups.items())))
        for area, groups in sorted(areas.items())
    ]
    listed = [f"| {entity} | {', '.join(names)} |" for entity, names in sorted(dimensions.items())]
    parts.append("\n".join(("### Dimensions\n", "| of | dimensions |", "|---|---|", *listed)))
    return "\n" + "\n\n".join(parts) + "\n\n"


def write(settings: Settings) -> None:
    """Put the tables into the page."""
    PAGE.write_text(BETWEEN.sub(lambda _: tables(settings), PAGE.read_text()))


def _primary(model: Mapping[str, Any]) -> str:
    named = [entity["name"] for entity in model["entities"] if entity["type"] == "primary"]
    return str(model["primary_entity"] or named[0])


def _entities(model: Mapping[str, Any]) -> set[str]:
    return {entity["name"] for entity in model["entities"]} | {_primary(model)}


def _dimensions(model: Mapping[str, Any]) -> list[str]:
    """Return what a model's rows are sliced by; its own time is `metric_time`."""
    own = (model["defaults"] or {}).get("agg_time_dimension")
    return sorted(f"`{_primary(model)}__{one['name']}`" for one in model["dimensions"] if one["name"] != own)


def _models(manifest: Mapping[str, Any], metric: Mapping[str, Any]) -> Iterator[str]:
    """Return the semantic models that a metric is made of, through other metrics too."""
    for name in metric["depends_on"]["nodes"]:
        if name in manifest["semantic_models"]:
            yield name
        else:
            yield from _models(manifest, manifest["metrics"][name])
