"""The record of profiles, `ops.profiles`: it has what the next profile of a table is compared with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from granary.profiling.profile import Profile
from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings


def keep(settings: Settings, profile: Profile) -> None:
    """Append a profile to the record."""
    with connect(settings, role="transformer") as connection:
        execute(
            connection,
            "insert into ops.profiles (relation, load_id, row_count, profile, profiled_at)"
            " values ($1, $2, $3, $4::jsonb, $5::timestamptz)",
            profile.relation,
            profile.load_id,
            profile.rows,
            json.dumps(profile.to_json()).replace("\\u0000", "\\ufffd"),
            profile.profiled_at.isoformat(),
        )
        connection.commit()


def previous(settings: Settings, relation: str) -> Profile | None:
    """Return the latest profile of a relation that is kept, None if there is none."""
    with connect(settings, role="transformer") as connection:
        rows = query(
            connection,
            "select profile::text from ops.profiles where relation = $1 order by profile_id desc limit 1",
            relation,
        )
    return Profile.from_json(json.loads(str(rows[0][0]))) if rows else None


def latest_two(settings: Settings) -> list[tuple[Profile, Profile | None]]:
    """Return the latest profile of every relation, each with the one before it, in order of the relations' names."""
    with connect(settings, role="transformer") as connection:
        rows: list[tuple[Any, ...]] = query(
            connection,
            "select relation, profile::text from ("
            " select relation, profile, profile_id,"
            " row_number() over (partition by relation order by profile_id desc) as age from ops.profiles"
            ") as kept where age <= 2 order by relation, age",
        )
    found: dict[str, list[Profile]] = {}
    for relation, text in rows:
        found.setdefault(str(relation), []).append(Profile.from_json(json.loads(str(text))))
    return [(newest[0], newest[1] if len(newest) > 1 else None) for newest in found.values()]
