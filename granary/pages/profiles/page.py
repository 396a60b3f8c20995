"""The page of all profiles: one file, no script, no outside address; light and dark, wide and narrow."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from granary.pages.html import policy, write
from granary.pages.profiles.run import AllBut, personal_columns
from granary.pages.profiles.shapes import heights
from granary.pages.profiles.style import STYLE
from granary.profiling.drift import drift
from granary.profiling.store import latest_two
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path

    from granary.profiling.drift import Move
    from granary.profiling.profile import ColumnProfile, Profile
    from granary.warehouse.settings import Settings

NAME = "profiles.html"
BINS = 24
COMMON = 5
QUANTILES = ((0, "least"), (5, "5 %"), (25, "25 %"), (50, "median"), (75, "75 %"), (95, "95 %"), (100, "greatest"))


def write_page(settings: Settings, folder: Path) -> Path:
    """Write the page of the latest profile of every table into a folder; return its path."""
    pairs = [(_without_personal(settings, now), before) for now, before in latest_two(settings)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    write(path, page([(now, drift(before, now) if before else None) for now, before in pairs]))
    return path


def _without_personal(settings: Settings, profile: Profile) -> Profile:
    """Return a profile without values of columns that are personal by now, or of which nobody can tell."""
    if profile.relation.startswith("file "):
        return profile
    try:
        return profile.without(personal_columns(settings, profile.relation))
    except GranaryError:
        return profile.without(AllBut(frozenset()))


def page(profiles: list[tuple[Profile, list[Move] | None]]) -> str:
    """Return the page; `None` instead of moves says that there was nothing to compare with."""
    body = "".join(_table(number, profile, moves) for number, (profile, moves) in enumerate(profiles))
    if not profiles:
        body = "<p>No table has been profiled yet: <code>granary profile marts.fct_orders</code> does it.</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Profiles</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy()}"><style>{STYLE}</style></head><body>'
        "<header><h1>Profiles</h1><p>What the tables hold, and what moved since they were last looked at. "
        "<code>granary profile TABLE</code> takes a new one. "
        '<a href="static_index.html">Models</a> · <a href="marts.html">Marts</a> · '
        '<a href="lineage.html">Column lineage</a></p></header>'
        f"<main>{_index(profiles)}{body}</main></body></html>\n"
    )


def _index(profiles: list[tuple[Profile, list[Move] | None]]) -> str:
    rows = "".join(
        f'<li><a href="#t{number}">{escape(profile.relation)}</a>'
        f" <span>{profile.rows:,} rows</span> {_badge(moves)}</li>"
        for number, (profile, moves) in enumerate(profiles)
    )
    return f'<nav aria-label="Tables"><ul>{rows}</ul></nav>' if len(profiles) > 1 else ""


def _badge(moves: list[Move] | None) -> str:
    if not moves:
        return ""
    level = "much" if any(move.level == "much" for move in moves) else "some"
    return f'<b class="{level}">{len(moves)} moved</b>'


def _table(number: int, profile: Profile, moves: list[Move] | None) -> str:
    taken = f"{profile.profiled_at:%Y-%m-%d %H:%M} UTC"
    load = f" · load {profile.load_id}" if profile.load_id is not None else ""
    basis = "" if profile.exact else (
        f"<p>Distinct values (projected), quantiles and common values come from a random sample of {profile.sampled:,}"
        " rows; counts, nulls, least and greatest values are exact.</p>"
    )  # fmt: skip
    columns = "".join(_column(column, profile) for column in profile.columns)
    return (
        f'<section id="t{number}"><h2>{escape(profile.relation)}</h2>'
        f"<p>{profile.rows:,} rows · {len(profile.columns)} columns · {taken}{load}</p>{basis}"
        f"<p>{escape(keys_line(profile))}</p>{_moves(moves)}"
        '<table class="columns"><thead><tr><th>Column</th><th>Nulls</th><th>Distinct</th><th>Shape and quantiles</th>'
        f"<th>Most common</th></tr></thead><tbody>{columns}</tbody></table></section>"
    )


def _moves(moves: list[Move] | None) -> str:
    if moves is None:
        return "<p>This is the first profile: there is nothing to compare it with.</p>"
    if not moves:
        return "<p>No drift since the profile before.</p>"
    rows = "".join(
        f'<tr><th scope="row">{escape(move.column or "the table")}</th>'
        f'<td data-name="What">{move.what} <b class="{move.level}">{move.level}</b></td>'
        f'<td data-name="Before">{escape(move.before)}</td><td data-name="Now">{escape(move.now)}</td>'
        f'<td data-name="PSI">{"" if move.psi is None else f"{move.psi:.2f}"}</td>'
        f'<td data-name="KS">{"" if move.ks is None else f"{move.ks:.2f}"}</td></tr>'
        for move in moves
    )
    return (
        '<h3>Moved since the profile before</h3><table class="moves"><thead><tr><th>Column</th><th>What</th>'
        f"<th>Before</th><th>Now</th><th>PSI</th><th>KS</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _column(column: ColumnProfile, profile: Profile) -> str:
    share = column.nulls / profile.rows if profile.rows else 0.0
    nulls = f"{share:.1%}{_meter(share)}" if column.nulls else "none"
    distinct = f"{'' if profile.exact else 'about '}{column.distinct:,}"
    if column.personal:
        shape, common = '<span class="quiet">personal: not shown</span>', ""
    else:
        shape, common = _shape(column), _common(column, min(profile.rows - column.nulls, profile.sampled))
    return (
        f'<tr><th scope="row">{escape(column.name)}<small>{escape(column.type)}</small></th>'
        f'<td data-name="Nulls">{nulls}</td><td data-name="Distinct">{distinct}</td>'
        f'<td data-name="Shape">{shape}</td><td data-name="Most common">{common}</td></tr>'
    )


def _meter(share: float) -> str:
    return f'<span class="meter"><i style="width:{max(2.0, 100 * share):.1f}%"></i></span>'


def _shape(column: ColumnProfile) -> str:
    if not column.percentiles:
        return ""
    bars = heights(column, BINS)
    width = 100 / len(bars)
    drawn = "".join(
        f'<rect x="{place * width:.2f}" y="{30 - 30 * height:.2f}" width="{width * 0.85:.2f}"'
        f' height="{30 * height:.2f}"/>'
        for place, height in enumerate(bars)
    )
    shown = [(label, column.shown(column.percentile(percent))) for percent, label in QUANTILES]
    caption = ", ".join(f"{label} {value}" for label, value in shown)
    cells = "".join(f"<span><small>{label}</small>{escape(value)}</span>" for label, value in shown)
    return (
        f'<svg viewBox="0 0 100 30" preserveAspectRatio="none" role="img" aria-label="{escape(caption)}">{drawn}</svg>'
        f'<div class="quantiles">{cells}</div>'
    )


def _common(column: ColumnProfile, values: int) -> str:
    """Return the common values; nothing if none comes in one of a hundred rows, or each comes once."""
    if not column.top or column.top[0][1] < 0.01 or round(column.top[0][1] * values) <= 1:  # noqa: PLR2004
        return ""
    rows = "".join(
        f'<li><span class="value">{escape(value) or "(empty text)"}</span><span>{share:.1%}</span>{_meter(share)}</li>'
        for value, share in column.top[:COMMON]
    )
    return f"<ol>{rows}</ol>"


def keys_line(profile: Profile) -> str:
    """Return which columns may be the key."""
    named = "; ".join(", ".join(key) for key in profile.keys)
    if not named:
        return "No single column and no pair of columns that look like keys is unique."
    return f"Possible keys: {named}" + ("" if profile.exact else " (unique in the sample)")
