"""What a project writes into `deliveries/`: which rows go where, known by which key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from granary.readers.api.spec import Api, check_url
from granary.sources import validation

BATCH_ROWS = 500


@dataclass(frozen=True)
class Files:
    """A file in a folder, a bucket on S3 or a folder of an SFTP server, written whole at each publish.

    Attributes:
        place: a path, `s3://bucket/folder` or `sftp://host/folder`.
        format: csv (RFC 4180, in UTF-8, with a header), parquet or excel.
        name: of the file, without what says its format; `{publish}` in it is the publish's number. By default the
            delivery's name.
        credentials: what opens the place, such as `key`, `secret` and `endpoint_url` of S3; see sources/files.md.
    """

    place: str
    format: Literal["csv", "parquet", "excel"] = "csv"
    name: str = ""
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check the words, and that the name is one file's."""
        validation.check(self, "Files", filled=("place",))
        if "/" in self.name or self.name.startswith("."):
            raise ValueError(f"Files: name {self.name!r} is not the name of a file in the place")
        try:
            self.name.format(publish=1)
        except (LookupError, ValueError):
            raise ValueError("Files: name may have {publish} in it, and nothing else in braces") from None


@dataclass(frozen=True)
class HttpApi:
    """A JSON API that is sent batches, or single rows, by POST.

    Attributes:
        api: the service, as sources declare one: address, credentials, rate, attempts.
        path: below its address.
        per_row: whether each row is a request of its own.
    """

    api: Api
    path: str = ""
    per_row: bool = False

    def __post_init__(self) -> None:
        """Check the words."""
        validation.check(self, "HttpApi")


@dataclass(frozen=True)
class Webhook:
    """An address that is sent signed events: of a batch, or of single rows.

    Attributes:
        url: where to.
        secret: what the signature is made with; the receiver knows it, too.
        per_row: whether each row is an event of its own.
        rate: the most events a second; None is as fast as it answers.
    """

    url: str = field(repr=False)
    secret: str = field(repr=False)
    per_row: bool = True
    rate: float | None = None

    def __post_init__(self) -> None:
        """Check the address and the secret."""
        validation.check(self, "Webhook", positive=("rate",))
        check_url(self.url, "Webhook: url")
        if len(self.secret) < 16:  # noqa: PLR2004 - as streams/signatures.py
            raise ValueError("Webhook: the secret is shorter than 16 characters")


@dataclass(frozen=True)
class Topic:
    """A topic of Kafka. A message has the key columns as a JSON object for its key; a deleted row is a tombstone.

    Attributes:
        address: `kafka://host:port?…`, as a source's: options go to the client.
        topic: its name.
    """

    address: str = field(repr=False)
    topic: str

    def __post_init__(self) -> None:
        """Check that there is a topic."""
        validation.check(self, "Topic", filled=("topic",))


@dataclass(frozen=True)
class Database:
    """A table of a Postgres, MySQL or MariaDB, in which rows are inserted, updated and deleted by key.

    Attributes:
        uri: `postgresql://user:password@host/name` or `mysql://…`.
        table: the table, which is there and has a unique key of the key columns; in Postgres `schema.table`, too.
    """

    uri: str = field(repr=False)
    table: str

    def __post_init__(self) -> None:
        """Check that there is a table."""
        validation.check(self, "Database", filled=("uri", "table"))


Target = Files | HttpApi | Webhook | Topic | Database
"""Where a delivery may go."""


@dataclass(frozen=True)
class Delivery:
    """Rows that go to another system after each publish.

    Attributes:
        name: that of its module in `deliveries/`.
        description: what it is for.
        owner: the team that looks after it.
        settings: names of settings that it needs, as a source's.
        target: returns where to, given the settings.
        mart: the mart; or else
        query: a query over marts, which are written `marts.NAME`, and
        reads: the marts that it reads.
        key: the columns that tell a row. Of a mart by default its own key; files need none.
        batch_rows: the most rows that are sent at a time.
        role: with whose rights it reads: with those of `analyst` personal columns are masked.
    """

    name: str
    description: str
    owner: str
    settings: tuple[str, ...]
    target: Callable[[Mapping[str, str]], Target]
    mart: str = ""
    query: str = ""
    reads: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    batch_rows: int = BATCH_ROWS
    role: Literal["analyst", "analyst_pii"] = "analyst"

    def __post_init__(self) -> None:
        """Check the words, and that it is a mart or a query."""
        label = f"delivery {self.name}"
        validation.check(
            self, label, filled=("description", "owner", "settings", "reads", "key"), positive=("batch_rows",)
        )
        if not validation.NAME.fullmatch(self.name):
            raise ValueError(f"{label}: the name has other characters than a-z, 0-9 and _")
        if bool(self.mart) == bool(self.query):
            raise ValueError(f"{label}: give either mart or query")
        if self.query and not self.reads:
            raise ValueError(f"{label}: reads names no mart that the query reads")
        if self.mart and self.reads:
            raise ValueError(f"{label}: reads is for a query")

    @property
    def marts(self) -> tuple[str, ...]:
        """The marts that it reads."""
        return (self.mart,) if self.mart else self.reads
