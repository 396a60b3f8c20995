"""The picture of one mart and what it joins: two columns of boxes, so it fits a phone, and no line crosses another.

Lines start at the mart's columns in their order and end at boxes in the same order, which is why there is nothing to
lay out. Ends are crow's feet: three toes for many rows, a bar for one.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from granary.pages.docs.marts import Join, Mart

WIDTH, LEFT, RIGHT = 384, 178, 164
HEAD, ROW, GAP = 26, 20, 8
BOX = HEAD + ROW + 4


def picture(mart: Mart) -> str:
    """Return the picture as SVG; what it says is in the text below it, too, so it is hidden from screen readers."""
    joins = {join.column: join for join in mart.joins}
    names = [field.name for field in mart.fields if field.name in mart.grain or field.name in joins]
    rest = len(mart.fields) - len(names)
    own = HEAD + ROW * (len(names) + bool(rest)) + 4
    others = len(joins) * BOX + max(0, len(joins) - 1) * GAP
    height = max(own, others) + 2
    top = 1 + max(0, others - own) / 2
    parts = [_box(1, top, LEFT, own, mart.name)]
    beside = 1 + max(0, own - others) / 2
    for place, name in enumerate(names):
        y = top + HEAD + ROW * place + ROW / 2
        parts.append(_row(1, y, name, is_key=name in mart.grain))
        if name in joins:
            parts.append(_other(joins[name], beside))
            parts.append(_line(joins[name], y, beside + HEAD + ROW / 2))
            beside += BOX + GAP
    if rest:
        y = top + HEAD + ROW * len(names) + ROW / 2
        parts.append(f'<text class="quiet" x="24" y="{y + 4:g}">and {rest} more</text>')
    return (
        f'<svg class="joins" aria-hidden="true" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}">'
        f"{''.join(parts)}</svg>"
    )


def _box(x: float, y: float, width: float, height: float, title: str) -> str:
    return (
        f'<rect class="box" x="{x}" y="{y:g}" width="{width}" height="{height}" rx="5"/>'
        f'<path class="head" d="M{x} {y + HEAD - 4:g}h{width}"/>'
        f'<text class="title" x="{x + 8}" y="{y + 16:g}">{escape(title)}</text>'
    )


def _row(x: float, y: float, name: str, *, is_key: bool) -> str:
    mark = f'<text class="mark" x="{x + 8:g}" y="{y + 4:g}">◆</text>' if is_key else ""
    return f'{mark}<text x="{x + 23:g}" y="{y + 4:g}">{escape(name)}</text>'


def _other(join: Join, y: float) -> str:
    x = WIDTH - RIGHT - 1
    return _box(x, y, RIGHT, BOX, join.mart) + _row(x, y + HEAD + ROW / 2, join.field, is_key=join.is_one)


def _line(join: Join, start: float, end: float) -> str:
    left, right = LEFT + 1, WIDTH - RIGHT - 1
    middle = (left + right) / 2
    path = f"M{left} {start:g}H{left + 9}C{middle + 4} {start:g} {middle - 4} {end:g} {right - 9} {end:g}H{right}"
    return (
        f'<path class="{"taken" if join.inherited else "tested"}" d="{path}"/>'
        + _foot(left, start, 1, many=not join.is_single)
        + _foot(right, end, -1, many=not join.is_one)
    )


def _foot(x: float, y: float, way: int, *, many: bool) -> str:
    if many:
        return f'<path class="foot" d="M{x} {y - 5:g}L{x + 9 * way} {y:g}L{x} {y + 5:g}"/>'
    return f'<path class="foot" d="M{x + 6 * way} {y - 5:g}V{y + 5:g}"/>'
