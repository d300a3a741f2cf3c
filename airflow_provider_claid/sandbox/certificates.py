"""A certificate authority and a certificate by it, for a sandbox that is reached over HTTPS."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

AUTHORITY, SERVER = "ca.pem", "server.pem"
_LIFETIME = timedelta(days=365)
_SPARE = timedelta(days=30)
# Clocks of containers and their host may differ.
_SKEW = timedelta(days=1)
_WILDCARDS = {"0.0.0.0", "::"}  # noqa: S104 - not names: what a server listens on


@dataclass(frozen=True)
class Certificates:
    """
    Two PEM files in `folder`: the authority that clients must trust, and the server's key with its certificate.

    The authority's own key is not kept: nobody can sign anything else with it.
    """

    folder: Path

    @property
    def authority(self) -> Path:
        """The file to trust; it holds no secret."""
        return self.folder / AUTHORITY

    @property
    def server(self) -> Path:
        """The key and the certificate that the server shows; readable by this user alone."""
        return self.folder / SERVER


def certificates_in(folder: Path, names: Iterable[str]) -> Certificates:
    """
    Return the certificates of `folder`, good for all `names`, which are host names and IP addresses.

    What an earlier sandbox has left there is taken again if it covers them and is good for 30 days more, so that
    clients need not be told anew; else both files are made. Raises OSError if they cannot be written, and
    ModuleNotFoundError without the package `cryptography`, which Airflow brings.
    """
    found, wanted = Certificates(folder), frozenset(names)
    folder.mkdir(parents=True, exist_ok=True)
    if not (wanted <= _covered(found)):
        _make(found, wanted)
    return found


def names_of(host: str, more: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names of a server that listens on `host`: this machine's, and `more`, which it may be reached by."""
    own = [socket.gethostname().lower(), *([] if host in _WILDCARDS else [host])]
    usable = []
    for name in own:
        with suppress(ValueError):
            usable.append(checked_name(name))
    return tuple(dict.fromkeys(["localhost", "127.0.0.1", "::1", *usable, *more]))


def checked_name(text: str) -> str:
    """Return a host name or an IP address as a certificate has it, or raise a ValueError."""
    with suppress(ValueError):
        return str(ip_address(text.strip("[]").partition("%")[0]))
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    fits = len(name) <= 253 and all(0 < len(label) <= 63 for label in labels)
    if not fits or not name.isascii() or not all(_is_label(label) for label in labels):
        raise ValueError(f"{text!r} is not a host name or an IP address, such as claid.example.com or 10.0.0.7")
    return name


def _is_label(label: str) -> bool:
    return label.replace("-", "").replace("_", "").isalnum() and not label.startswith("-") and not label.endswith("-")


def _covered(found: Certificates) -> frozenset[str]:
    """Return the names that these files are good for, none if they are missing, broken, or soon too old."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        authority = x509.load_pem_x509_certificate(found.authority.read_bytes())
        server = x509.load_pem_x509_certificate(found.server.read_bytes())
        server.verify_directly_issued_by(authority)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(found.server)
        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature):
        return frozenset()
    if min(server.not_valid_after_utc, authority.not_valid_after_utc) < datetime.now(UTC) + _SPARE:
        return frozenset()
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return frozenset([*names.get_values_for_type(x509.DNSName), *addresses])


def _make(found: Certificates, names: frozenset[str]) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, name = _named("Claid sandbox authority"), _named("Claid sandbox")
    root = (
        _builder(root_name, root_name, root_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    alternatives = x509.SubjectAlternativeName([_alternative(each) for each in sorted(names)])
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    server = (
        _builder(name, root_name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(authority_key, critical=False)
        .add_extension(alternatives, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    _write(found.server, secret + server.public_bytes(pem), 0o600)
    _write(found.authority, root.public_bytes(pem), 0o644)


def _named(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: object) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())  # type: ignore[arg-type]
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)  # type: ignore[arg-type]
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a file as a whole, with its rights from the start."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
    new.replace(path)
