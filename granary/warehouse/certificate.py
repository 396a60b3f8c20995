"""The certificate of a server that listens: one that somebody gave, or one made here, for clients to trust."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from granary.warehouse import listen
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.x509 import GeneralName

    from granary.warehouse.listen import Listening

CERTIFICATE, KEY = "listen.crt", "listen.key"
"""Those that were made, in the home."""
VALID = timedelta(days=825)
"""How long one that is made is valid; Apple's clients accept no longer one."""
RENEWED = timedelta(days=30)
"""How long before its end another one is made, and `granary status` says so of one that was given."""
INSTALL = "install the extra `listen`: pip install 'granary-elt[listen]'"


def ready(home: Path, listening: Listening) -> tuple[bytes, bytes]:
    """Return certificate and key in PEM, made in the home if nobody gave any and there is none for this host.

    Raises:
        GranaryError: a file cannot be read, is none, or they do not belong together; or nothing can make one.
    """
    certificate, key = _paths(home, listening)
    if not listening.certificate and not (
        certificate.exists() and key.exists() and _serves(certificate, listening.host)
    ):
        _make(certificate, key, listening.host)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
        return certificate.read_bytes(), key.read_bytes()
    except (OSError, ValueError) as error:  # SSLError is an OSError
        words = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)
        raise GranaryError(
            f"the server's certificate cannot be used: {str(words or 'it is none').lower().replace('_', ' ')}",
            f"{certificate}, {key}",
            "give a certificate and its key without a passphrase, both in PEM",
        ) from None


def renewed(home: Path, listening: Listening, used: tuple[Path, Path]) -> bool:
    """Return whether certificate or key are others by now than those in the files `used`."""
    try:
        return any(
            path.read_bytes() != one.read_bytes() for path, one in zip(_paths(home, listening), used, strict=True)
        )
    except OSError:
        return False  # they are gone, or in the middle of being replaced: the server goes on with those that it has


def _paths(home: Path, listening: Listening) -> tuple[Path, Path]:
    """Return where certificate and key are."""
    return home / (listening.certificate or CERTIFICATE), home / (listening.key or KEY)


def ends(home: Path, listening: Listening) -> datetime | None:
    """Return when the certificate stops being valid, None if it cannot be read."""
    try:
        from cryptography import x509  # noqa: PLC0415 - only where the server listens

        return x509.load_pem_x509_certificate(_paths(home, listening)[0].read_bytes()).not_valid_after_utc
    except (ImportError, OSError, ValueError):
        return None


def _serves(certificate: Path, host: str) -> bool:
    """Return whether a certificate that was made is for this host, and for a while yet."""
    try:
        from cryptography import x509  # noqa: PLC0415

        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ImportError, ValueError):
        return False
    except x509.ExtensionNotFound:
        return False
    known = {str(name.value) for name in names}
    return found.not_valid_after_utc - RENEWED > datetime.now(timezone.utc) and set(_names(host)) <= known


def _names(host: str) -> list[str]:
    """Return the names and addresses by which clients may reach the server."""
    names = [socket.gethostname(), socket.getfqdn(), "localhost", "127.0.0.1"]
    names += [] if host in listen.EVERYWHERE else [host, *listen.addresses(host)]
    if host in listen.EVERYWHERE:
        import psutil  # noqa: PLC0415

        found = [one.address.partition("%")[0] for of in psutil.net_if_addrs().values() for one in of if one.family in (
            socket.AF_INET, socket.AF_INET6)]  # fmt: skip
        names += found
    return sorted(dict.fromkeys(names))


def _make(certificate: Path, key: Path, host: str) -> None:
    """Make a key and a certificate signed by itself.

    Raises:
        GranaryError: the library that makes them is not installed.
    """
    try:
        from cryptography import x509  # noqa: PLC0415
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415
    except ImportError:
        raise GranaryError(
            "nothing here can make a certificate", "cryptography", f"{INSTALL}; or give --certificate and --key"
        ) from None
    made = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, socket.gethostname()[:64])])
    now = datetime.now(timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(made.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([_name(one) for one in _names(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(made, hashes.SHA256())
    )
    text = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for path, content in ((key, text), (certificate, signed.public_bytes(serialization.Encoding.PEM))):
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            handle.write(content)


def _name(text: str) -> GeneralName:
    """Return a name or an address as certificates have it."""
    from cryptography import x509  # noqa: PLC0415

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
