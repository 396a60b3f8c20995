"""The office's database, which knows the members of the club."""

from datetime import timedelta

import pyarrow as pa

from granary.readers.database import DatabaseReader
from granary.sources.spec import Column, Source, Table

MEMBERS = Table(
    name="members",
    description="The members of the club, as they are now.",
    location="members",
    disposition="merge",
    key=("member_id",),
    cursor="updated_at",
    freshness=timedelta(days=1),
    columns=(
        Column("member_id", pa.int64(), "Member.", nullable=False, personal="pseudonym"),
        Column("town", pa.string(), "Where the member lives.", personal="demographic"),
        Column("updated_at", pa.timestamp("us", tz="UTC"), "Last change.", nullable=False),
    ),
)

SOURCE = Source(
    name="office",
    description="The office's database.",
    owner="office",
    kind="database",
    settings=("GRANARY_OFFICE_URL",),
    open_reader=lambda settings: DatabaseReader(settings["GRANARY_OFFICE_URL"]),
    tables=(MEMBERS,),
)
