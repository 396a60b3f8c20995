"""A Confluent-compatible schema registry, read over HTTP.

The protocol is Confluent's Schema Registry REST API: https://docs.confluent.io/platform/current/schema-registry/develop/api.html
(GET /schemas/ids/{id}, GET /subjects/{subject}/versions/{version}, GET /config/{subject},
POST /compatibility/subjects/{subject}/versions/{version}). Redpanda, Karapace and Apicurio speak it too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from granary.readers.api.exchange import failure_words
from granary.warehouse.errors import GranaryError, missing_package

TIMEOUT_SECONDS = 10
MAX_BYTES = 4_194_304
MAX_REFERENCES = 200
NOT_FOUND, UNPROCESSABLE = 404, 422
CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class UnknownSchemaError(GranaryError):
    """The registry does not know a schema id."""


class RegistryUnavailableError(GranaryError):
    """The registry does not answer, or answers with nonsense: to be tried again."""


Kind = Literal["AVRO", "PROTOBUF", "JSON"]
KINDS: dict[Kind, str] = {"AVRO": "Avro", "PROTOBUF": "Protobuf", "JSON": "JSON Schema"}
"""What the registry calls a kind of schema (`schemaType`) -> what people do."""


@dataclass(frozen=True)
class Schema:
    """A schema as registered: its kind and text, and the texts that it refers to by the name that it has for them.

    `references` are those of its references too, each before what refers to it.
    """

    kind: Kind
    text: str
    references: tuple[tuple[str, str], ...] = ()

    def parsed(self) -> list[Any]:
        """Return the schemas that it refers to and itself last, as JSON.

        Raises:
            UnknownSchemaError: one of them is not JSON.
        """
        try:
            return [json.loads(text) for text in (*(text for _, text in self.references), self.text)]
        except (ValueError, RecursionError):
            raise UnknownSchemaError("it is not JSON") from None


@dataclass(frozen=True)
class Version:
    """One version of a subject."""

    subject: str
    version: int
    schema_id: int
    schema: Schema


class Registry:
    """Reads schemas; those of an id never change, so each is asked for once."""

    def __init__(self, url: str) -> None:
        """Connect to a registry by its URL, which may hold a user and password.

        Raises:
            GranaryError: the URL is none, or requests is not installed.
        """
        try:
            import requests  # noqa: PLC0415 - only streams need it
        except ImportError:
            raise missing_package("the registry", "requests", "streams") from None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise GranaryError("the schema registry has no http(s) URL", todo="write registry=https://host:port")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.url = urlunsplit(
            (parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path.rstrip("/"), "", "")
        )
        self._session = requests.Session()
        self._session.trust_env = False
        if parts.username is not None:
            self._session.auth = (unquote(parts.username), unquote(parts.password or ""))
        self._failures = requests.RequestException
        self._schemas: dict[int, Schema] = {}

    def schema(self, schema_id: int) -> Schema:
        """Return the schema of an id.

        Raises:
            UnknownSchemaError: there is none, or it refers to one that is not there.
            RegistryUnavailableError: the registry does not answer.
        """
        if schema_id not in self._schemas:
            found = self._ask("GET", f"/schemas/ids/{schema_id}")
            if found is None:
                raise UnknownSchemaError(f"the registry knows no schema {schema_id}", self.url)
            self._schemas[schema_id] = self._whole(found, f"schema {schema_id}")
        return self._schemas[schema_id]

    def version(self, subject: str, version: int | str = "latest") -> Version | None:
        """Return a version of a subject, or None if the subject is not there (yet)."""
        found = self._ask("GET", f"/subjects/{quote(subject, safe='')}/versions/{version}")
        if found is None:
            return None
        return Version(subject, int(found["version"]), int(found["id"]), self._whole(found, f"{subject} {version}"))

    def subjects(self) -> list[str]:
        """Return the names of all subjects, in order."""
        found = self._ask("GET", "/subjects", wanted=list)
        return sorted(map(str, found or ()))

    def level(self, subject: str) -> str:
        """Return the compatibility that the registry itself enforces for a subject, such as BACKWARD or NONE."""
        found = self._ask("GET", f"/config/{quote(subject, safe='')}?defaultToGlobal=true") or self._ask(
            "GET", "/config"
        )
        return str((found or {}).get("compatibilityLevel", "unknown"))

    def can_read(self, subject: str, schema: Any) -> tuple[bool, tuple[str, ...]]:
        """Ask the registry whether a schema may follow the latest version of a subject, and why not."""
        body = {"schema": json.dumps(schema), "schemaType": "AVRO"}
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions/latest?verbose=true"
        found = self._ask("POST", path, body)
        if found is None:
            return True, ()
        return bool(found.get("is_compatible")), tuple(map(str, found.get("messages") or ()))

    def _whole(self, found: dict[str, Any], where: str) -> Schema:
        """Return an answer's schema with all that it refers to."""
        kind, text = found.get("schemaType", "AVRO"), found.get("schema")
        if kind not in KINDS or not isinstance(text, str):
            raise UnknownSchemaError(f"{where} is none of {', '.join(KINDS.values())}", self.url)
        references: dict[str, str] = {}
        self._refer(found, where, references, set())
        return Schema(kind, text, tuple(references.items()))

    def _refer(self, found: dict[str, Any], where: str, known: dict[str, str], seen: set[tuple[str, int]]) -> None:
        """Ask for what an answer's schema refers to, and for what that refers to, each once."""
        for reference in found.get("references") or ():
            try:
                name, subject, version = str(reference["name"]), str(reference["subject"]), int(reference["version"])
            except (KeyError, TypeError, ValueError):
                raise UnknownSchemaError(f"{where} has a reference without name, subject and version") from None
            if (subject, version) in seen:
                continue
            seen.add((subject, version))
            if len(seen) > MAX_REFERENCES:
                raise UnknownSchemaError(f"{where} refers to more than {MAX_REFERENCES} others", self.url)
            other = self._ask("GET", f"/subjects/{quote(subject, safe='')}/versions/{version}")
            if other is None:
                raise UnknownSchemaError(f"{where} refers to {subject}, which is not there", self.url)
            self._refer(other, subject, known, seen)
            known[name] = str(other.get("schema"))

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, wanted: type = dict) -> Any:
        """Return an answer's JSON object, or list, or None where the registry says that there is no such thing."""
        try:
            with self._session.request(
                method,
                self.url + path,
                json=body,
                headers={"Accept": CONTENT_TYPE} | ({"Content-Type": CONTENT_TYPE} if body else {}),
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
                stream=True,
            ) as answer:
                status = answer.status_code
                content = answer.raw.read(MAX_BYTES + 1, decode_content=True)
        except (self._failures, OSError) as error:
            words = failure_words(error, TIMEOUT_SECONDS).replace("the service", "the schema registry")
            raise RegistryUnavailableError(words, self.url, "is it up? try again") from None
        if status == NOT_FOUND:
            return None
        if status in (401, 403):
            raise GranaryError(
                f"the schema registry denies access ({status})", self.url, "check the address' user and password"
            )
        try:
            found = json.loads(content) if status == 200 and len(content) <= MAX_BYTES else None  # noqa: PLR2004 - OK
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, wanted):
            raise RegistryUnavailableError(f"the schema registry answered {status}", self.url, "try again later")
        return found
