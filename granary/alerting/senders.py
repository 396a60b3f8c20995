"""How a message gets to a channel: by HTTP, by SMTP, or into a file. What fails says so without any secret."""

from __future__ import annotations

import json
import smtplib
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from granary.alerting import formats
from granary.sources.config import setting
from granary.streams import signatures
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import locked

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.alerting.config import Channel
    from granary.alerting.message import Message
    from granary.warehouse.settings import Settings

CONNECT_SECONDS, ANSWER_SECONDS = 5, 10
"""How long a receiver may take to be reached, and to answer."""
IMPLICIT_TLS = 465
"""The port on which SMTP begins with TLS; on others STARTTLS does."""
TOO_MANY = 429
UNPROVEN = "check its certificate, or give the `ca` that signed it"


class NotSentError(GranaryError):
    """A channel did not take a message; `wait` is how many seconds it asked to wait, if it did."""

    def __init__(self, what: str, where: str, todo: str = "", wait: float | None = None) -> None:
        """Keep the parts."""
        super().__init__(what, where, todo)
        self.wait = wait


@dataclass(frozen=True)
class _Post:
    body: bytes
    headers: Mapping[str, str]


def send(settings: Settings, channel: Channel, message: Message) -> None:
    """Hand a message to a channel; it was taken when this returns.

    Raises:
        NotSentError: it was not, or nobody knows; the same message may be handed over again.
        GranaryError: a setting is missing, or what it holds is of no use.
    """
    if channel.kind == "file":
        _write(settings, channel, message)
    elif channel.kind == "email":
        _mail(settings, channel, message)
    else:
        _post(settings, channel, message)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _signed(settings: Settings, channel: Channel, message: Message) -> _Post:
    name = str(channel.options["secret"])
    secret = signatures.secrets_of(setting(settings, name), name)[0]
    body = _json(formats.webhook(message))
    signature = signatures.sign(secret, int(time.time()), body, message.key)
    return _Post(body, {signatures.HEADER: signature})


POSTS: Mapping[str, Callable[[Settings, Channel, Message], _Post]] = {
    "slack": lambda _, __, message: _Post(_json(formats.slack(message)), {}),
    "teams": lambda _, __, message: _Post(_json(formats.teams(message)), {}),
    "alertmanager": lambda _, __, message: _Post(_json(formats.alertmanager(message)), {}),
    "webhook": _signed,
}


def _post(settings: Settings, channel: Channel, message: Message) -> None:
    import requests  # noqa: PLC0415 - takes 100 ms, which a run without incidents does not pay

    variable = str(channel.options["url"])
    where = f"channel {channel.name}"
    url = setting(settings, variable).rstrip("/")
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise GranaryError(f"{variable} holds no address of the web", where, "write https://…")
    if parts.scheme == "http" and not channel.options.get("plain") and not is_here(host):
        raise GranaryError(f"{variable} holds an address without TLS", where, "write https://…, or `plain: true`")
    if channel.kind == "alertmanager" and not url.endswith("/api/v2/alerts"):
        url += "/api/v2/alerts"
    post = POSTS[channel.kind](settings, channel, message)
    headers = {"Content-Type": "application/json", "Idempotency-Key": message.key, **post.headers}
    try:
        with requests.Session() as session:
            session.trust_env = not is_here(host)
            with session.post(
                url,
                data=post.body,
                headers=headers,
                timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
                allow_redirects=False,
                verify=channel.options.get("ca", True),
                stream=True,
            ) as answer:
                status, wait = answer.status_code, answer.headers.get("Retry-After", "")
    except requests.exceptions.SSLError:
        raise NotSentError(f"{host} does not prove who it is", where, UNPROVEN) from None
    except requests.exceptions.Timeout:
        raise NotSentError(f"{host} does not answer in time", where) from None
    except requests.exceptions.RequestException as error:
        # Its words would have the address, which may be the secret.
        raise NotSentError(_unreached(host, error), where, f"check {variable}") from None
    except OSError:
        raise GranaryError("its file of certificates cannot be read", where, "correct `ca`") from None
    if not 200 <= status < 300:  # noqa: PLR2004 - what HTTP calls success
        passing = status in (TOO_MANY, 408) or status >= 500  # noqa: PLR2004
        raise NotSentError(f"{host} answered {status}", where, "" if passing else f"check {variable}", _seconds(wait))


def _unreached(host: str, error: Exception) -> str:
    return f"{host} cannot be reached ({type(error).__name__})"


def _seconds(given: str) -> float | None:
    """Return what a Retry-After asks for: seconds, or a date."""
    if given.strip().isdigit():
        return float(given)
    try:
        until = parsedate_to_datetime(given)
    except (ValueError, TypeError):
        return None
    return max(0.0, (until.astimezone(timezone.utc) - datetime.now(timezone.utc)).total_seconds())


def is_here(host: str) -> bool:
    """Whether a host is this machine by its name alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _mail(settings: Settings, channel: Channel, message: Message) -> None:
    options = channel.options
    host, port = str(options["host"]), int(options["port"])
    where = f"channel {channel.name}"
    may_be_plain = bool(options.get("plain")) or is_here(host)
    login = (str(options["user"]), setting(settings, str(options["password"]))) if "user" in options else None
    made = formats.mail(message, str(options["from"]), options["to"])
    try:
        context = ssl.create_default_context(cafile=options.get("ca"))
    except OSError:
        raise GranaryError("its file of certificates cannot be read", where, "correct `ca`") from None
    try:
        if port == IMPLICIT_TLS:
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=ANSWER_SECONDS, context=context)
        else:
            server = smtplib.SMTP(host, port, timeout=ANSWER_SECONDS)
        with server:
            server.ehlo()
            if port != IMPLICIT_TLS and server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
            elif port != IMPLICIT_TLS and (not may_be_plain or login):
                raise NotSentError(f"{host} offers no TLS", where, "nothing was sent; use one that does")
            if login:
                server.login(*login)
            refused = server.send_message(made)
    except ssl.SSLError:
        raise NotSentError(f"{host} does not prove who it is", where, UNPROVEN) from None
    except smtplib.SMTPResponseException as error:
        raise NotSentError(f"{host} answered {error.smtp_code}", where, "check user, password and addresses") from None
    except smtplib.SMTPRecipientsRefused as error:
        codes = sorted({code for code, _ in error.recipients.values()})
        raise NotSentError(f"{host} takes nothing for these addresses ({codes})", where, "check `to`") from None
    except TimeoutError:
        raise NotSentError(f"{host} does not answer in time", where) from None
    except (smtplib.SMTPException, OSError) as error:
        raise NotSentError(_unreached(host, error), where, "check `host` and `port`") from None
    if refused:
        raise NotSentError(f"{host} takes nothing for {len(refused)} of the addresses", where, "check `to`")


def _write(settings: Settings, channel: Channel, message: Message) -> None:
    """Append a line, unless the file has it already: it was written just before somebody was killed."""
    path = settings.home / str(channel.options["path"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f"{path.name}.lock"), "writing alerts"), path.open("a+", encoding="utf-8") as file:
            file.seek(0)
            if any(f'"key": "{message.key}"' in known for known in file) and not message.sample:
                return
            file.write(formats.line(message) + "\n")
    except OSError as error:
        what = f"its file cannot be written: {error.strerror}"
        raise NotSentError(what, f"channel {channel.name}", "check `path`") from None
