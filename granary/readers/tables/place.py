"""Where a lake is: a folder of this machine, a bucket on S3, an Iceberg REST catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from granary.readers.files.destination import Destination, open_destination
from granary.sources.config import find
from granary.warehouse.errors import GranaryError, UsageError

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

KEY, SECRET = "GRANARY_LAKE_KEY", "GRANARY_LAKE_SECRET"
TOKEN, CREDENTIAL = "GRANARY_LAKE_TOKEN", "GRANARY_LAKE_CREDENTIAL"
CATALOGUES = ("iceberg+http", "iceberg+https")
FORMS = "write a folder, s3://BUCKET/FOLDER[?endpoint_url=…&region=…] or iceberg+https://HOST/…?warehouse=…"
S3_OPTIONS = ("endpoint_url", "region")
NAMESPACE = "marts"


@dataclass(frozen=True)
class Place:
    """A place as it was typed, in parts. It shows no secret: those are settings."""

    text: str
    kind: Literal["folder", "s3", "catalogue"]
    url: str
    options: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False, default_factory=dict)

    def destination(self, *names: str) -> Destination:
        """Return a folder of the place, to write files into."""
        return self.at("/".join([self.url, *names]))

    def at(self, url: str) -> Destination:
        """Return a folder that the credentials of the place open."""
        endpoint = {"endpoint_url": self.options["endpoint_url"]} if "endpoint_url" in self.options else {}
        region = {"region": self.options["region"]} if "region" in self.options else {}
        keys = {name: self.secrets[name] for name in ("key", "secret") if name in self.secrets}
        return open_destination(url, {**endpoint, **region, **keys})

    def delta_options(self) -> dict[str, str]:
        """Return what the `deltalake` package is given to open the place."""
        if self.kind == "folder":
            return {}
        found = {"AWS_REGION": self.options.get("region", "us-east-1")}
        if endpoint := self.options.get("endpoint_url"):
            found["AWS_ENDPOINT_URL"] = endpoint
            if endpoint.startswith("http://"):
                found["AWS_ALLOW_HTTP"] = "true"
        if "key" in self.secrets:
            found |= {"AWS_ACCESS_KEY_ID": self.secrets["key"], "AWS_SECRET_ACCESS_KEY": self.secrets["secret"]}
        return found

    def iceberg_options(self) -> dict[str, str]:
        """Return what `pyiceberg` is given to open the place, or its catalogue."""
        found = {name: value for name, value in self.options.items() if "." in name}
        if self.kind == "folder":
            return found
        found.setdefault("s3.region", self.options.get("region", "us-east-1"))
        if endpoint := self.options.get("endpoint_url"):
            found["s3.endpoint"] = endpoint
        if "key" in self.secrets:
            found |= {"s3.access-key-id": self.secrets["key"], "s3.secret-access-key": self.secrets["secret"]}
        if self.kind == "catalogue":
            found |= {"uri": self.url.removeprefix("iceberg+")}
            found |= {name: self.options[name] for name in ("warehouse", "prefix") if name in self.options}
            found |= {name: self.secrets[name] for name in ("token", "credential") if name in self.secrets}
        return found

    @property
    def namespace(self) -> str:
        """The namespace of the catalogue that tables are made in."""
        return self.options.get("namespace", NAMESPACE)


def place_of(settings: Settings, text: str) -> Place:
    """Return the place that somebody means, with the credentials of this machine.

    Raises:
        UsageError: it is none of the three kinds, or holds a password.
        GranaryError: of a pair of credentials only one is set.
    """
    place = parse(text, {})
    return place if place.kind == "folder" else replace(place, secrets=_secrets(settings))


def parse(text: str, secrets: Mapping[str, str]) -> Place:
    """Return the place that an address means.

    Raises:
        UsageError: it is none of the three kinds, or holds a password.
    """
    scheme, separator, rest = text.partition("://")
    if not text.strip() or "\0" in text:
        raise UsageError("a lake needs a place", "--to", FORMS)
    if not separator or scheme == "file":
        path = Path(rest if separator else text).expanduser().absolute()
        if path.exists() and not path.is_dir():
            raise UsageError("it is a file, not a folder", str(path), FORMS)
        return Place(str(path), "folder", str(path), {})
    try:
        parts = urlsplit(text)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        _ = parts.port
    except ValueError:
        raise UsageError("that is no address", "--to", FORMS) from None
    if "@" in parts.netloc:  # never repeated: it holds a password
        raise UsageError(
            "the address holds credentials",
            "--to",
            f"leave them out and set {KEY} and {SECRET}, {TOKEN} or {CREDENTIAL}",
        )
    url = text.partition("?")[0].rstrip("/")
    if scheme not in ("s3", *CATALOGUES) or not parts.netloc:
        raise UsageError(f"a lake cannot be at {url[:80]!r}", "--to", FORMS)
    kind: Literal["s3", "catalogue"] = "s3" if scheme == "s3" else "catalogue"
    if kind == "s3" and (others := sorted(set(options) - set(S3_OPTIONS))):
        raise UsageError(f"there is no option {others[0]!r} of S3", url, f"it may have {' and '.join(S3_OPTIONS)}")
    return Place(text, kind, url, options, secrets)


def _secrets(settings: Settings) -> dict[str, str]:
    """Return the credentials that are set; without any, the libraries look where AWS's own tools do."""
    names = {"key": KEY, "secret": SECRET, "token": TOKEN, "credential": CREDENTIAL}
    found = {name: find(settings, variable) for name, variable in names.items()}
    if (found["key"] is None) != (found["secret"] is None):
        missing = SECRET if found["secret"] is None else KEY
        raise GranaryError(f"{missing} is not set", "the environment or sources.env", "set both, or neither")
    return {name: value for name, value in found.items() if value is not None}


def package(name: str) -> Any:
    """Import a package of the extra `lake`.

    Raises:
        GranaryError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        what = f"the package {name.partition('.')[0]} is not installed"
        raise GranaryError(what, "", "install it: pip install 'granary-elt[lake]'") from None
