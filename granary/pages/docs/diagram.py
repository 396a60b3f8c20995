"""The page of the marts: which fact joins which dimension, and each mart with its grain, joins and columns."""

from __future__ import annotations

from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from granary.pages.docs.frame import LINEAGE, MARTS, frame, model, prose
from granary.pages.docs.picture import picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.dagster.links import Links
    from granary.pages.docs.marts import Field, Join, Mart

LEAD = (
    "How the marts join, drawn from what is declared and tested: keys are unique by an index or a test, each solid line"
    " is a test that fails when a value leads nowhere. Marts are what analysts read, in the schema <code>marts</code>."
)
LEGEND = (
    "◆ is the key: together, one row. Three toes are many rows, a bar is one. A dashed line is not tested by itself:"
    " the column is taken from one that is, under the same name."
)
NAMES = {"core": "Core: facts and dimensions", "reference": "Reference: what codes and scores mean"}


def page(marts: Sequence[Mart], links: Links) -> str:
    """Return the page; it has no script."""
    core = [mart for mart in marts if mart.is_fact or mart.is_dimension]
    areas = [(area, list(members)) for area, members in groupby(marts, key=lambda mart: mart.area)]
    listed = "".join(
        f"<li><strong>{escape(area.capitalize())}</strong> "
        + " ".join(f'<a href="#{mart.name}">{escape(mart.name)}</a>' for mart in members)
        + "</li>"
        for area, members in areas
    )
    sections = "".join(
        f'<h2 class="area">{escape(NAMES.get(area, area.capitalize()))}</h2>'
        f'<div class="marts">{"".join(_section(mart, links) for mart in members)}</div>'
        for area, members in areas
    )
    body = (
        f'{_matrix(core)}<nav class="index" aria-label="Marts"><ul>{listed}</ul></nav>'
        f'<p class="legend">{LEGEND}</p>{sections}'
    )
    return frame(MARTS, "Marts and how they join", LEAD, body, links)


def _matrix(core: Sequence[Mart]) -> str:
    """Return which fact joins which dimension, as a table (a bus matrix)."""
    dimensions = [mart for mart in core if mart.is_dimension]
    heads = "".join(
        f'<th scope="col"><a href="#{one.name}"><span class="hidden">dim_</span>{escape(one.name[4:])}</a></th>'
        for one in dimensions
    )
    rows = []
    for fact in (mart for mart in core if mart.is_fact):
        cells = "".join(_cell([join for join in fact.joins if join.mart == one.name]) for one in dimensions)
        rows.append(
            f'<tr><th scope="row"><a href="#{fact.name}">{escape(fact.name)}</a>'
            f"<small>one row per {escape(', '.join(fact.grain))}</small></th>{cells}</tr>"
        )
    return (
        '<h2 id="glance">At a glance</h2>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Facts and dimensions">'
        f'<table class="matrix"><thead><tr><th scope="col">fact</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(joins: Sequence[Join]) -> str:
    if not joins:
        return '<td><span class="hidden">no</span></td>'
    caption = ", ".join(join.column for join in joins)
    return f'<td class="yes"><span aria-hidden="true">●</span><span class="hidden">by {escape(caption)}</span></td>'


def _section(mart: Mart, links: Links) -> str:
    made = ", ".join(f'<a href="#{name}">{escape(name)}</a>' for name in mart.made_from)
    joins = "".join(f"<li>{_join(join)}</li>" for join in mart.joins)
    title = f"{mart.name}-title"
    return (
        f'<section id="{mart.name}" aria-labelledby="{title}"><h3 id="{title}">{escape(mart.name)}</h3>'
        + picture(mart)
        + (f'<ul class="joins">{joins}</ul>' if joins else "")
        + f"<p>{prose(mart.description)}</p>"
        + (f"<p>Of other marts, it takes values of {made}.</p>" if made else "")
        + f'<p class="links">{_links(mart, links)}</p>'
        f"<details><summary>{len(mart.fields)} columns<span class=hidden> of {escape(mart.name)}</span></summary>"
        f"{_fields(mart)}</details></section>"
    )


def _join(join: Join) -> str:
    how = {
        (False, True): "many rows to one",
        (True, True): "one row to one",
        (False, False): f"many to many: a <code>{escape(join.field)}</code> has several rows there",
        (True, False): f"one to many: a <code>{escape(join.field)}</code> has several rows there",
    }[join.is_single, join.is_one]
    if not join.inherited:
        why = f"tested by <code>{escape(join.test)}</code>"
    elif join.test:
        why = f"taken from where <code>{escape(join.test)}</code> tests it"
    else:
        why = "taken from there"
    return (
        f'<code>{escape(join.column)}</code> → <a href="#{join.mart}">{escape(join.mart)}</a>'
        f".<code>{escape(join.field)}</code>: {how}, {why}"
    )


def _links(mart: Mart, links: Links) -> str:
    shown = [f'<a href="{model(mart.id)}">Model, tests and SQL</a>']
    if asset := links.asset("marts", mart.name):
        shown.append(f'<a href="{escape(asset)}">In Dagster</a>')
    if links.dashboard:
        shown += [f'<a href="{escape(links.page(file))}">Dashboard: {escape(title)}</a>' for title, file in mart.pages]
    return " ".join(shown)


def _fields(mart: Mart) -> str:
    joins = {join.column for join in mart.joins}
    rows = "".join(_field(mart, field, field.name in joins) for field in mart.fields)
    return (
        '<table class="fields"><thead><tr><th scope="col">Column</th><th scope="col">Type</th>'
        f'<th scope="col">What it is</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _field(mart: Mart, field: Field, joins: bool) -> str:
    marks = ("key " if field.name in mart.grain else "") + ("joins" if joins else "")
    return (
        f'<tr><th scope="row"><a href="{LINEAGE}#marts.{mart.name}.{field.name}">{escape(field.name)}</a>'
        f'<small>{marks}</small></th><td data-name="Type"><code>{escape(field.type)}</code></td>'
        f'<td data-name="What it is">{prose(field.description)}</td></tr>'
    )
