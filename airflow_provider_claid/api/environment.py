"""What the environment says of the way to servers: proxies, and the hosts that need none. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

from airflow_provider_claid.api.addresses import literal
from airflow_provider_claid.api.errors import ClaidConfigurationError
from airflow_provider_claid.api.text import one_line

PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_PROXY_FORM = "the address of a proxy as http://host:port, https://host:port or socks5://host:port"
_PORT = re.compile(r"(.*):([0-9]{1,5})")


@dataclass(frozen=True)
class Exemption:
    """One entry of NO_PROXY: a name with what is below it, or a network; of one scheme or port, or of any."""

    name: str = ""
    network: IPv4Network | IPv6Network | None = None
    below_only: bool = False
    scheme: str = ""
    port: int | None = None

    def covers(self, scheme: str, host: str, port: int) -> bool:
        """Tell whether this server is meant."""
        if self.scheme not in {"", "all", scheme} or self.port not in {None, port}:
            return False
        if self.name == "*":
            return True
        address = literal(host)
        if self.network is not None:
            return address is not None and address in self.network
        if address is not None:
            return False
        host = host.rstrip(".").lower()
        return host.endswith(f".{self.name}") or (host == self.name and not self.below_only)


def exemptions(text: str) -> tuple[Exemption, ...]:
    """
    Read NO_PROXY: names, `.name` for what is below it, addresses, networks, `*`, each with `:port` or `scheme://`.

    IPv6 is taken with and without brackets. An entry that is none of these means no server.
    """
    return tuple(found for entry in re.split(r"[,\s]+", text) if entry and (found := _exemption(entry.lower())))


def _exemption(entry: str) -> Exemption | None:
    scheme, mark, rest = entry.partition("://")
    host = rest.rstrip("/") if mark else entry
    scheme = scheme if mark else ""
    if host == "*":
        return Exemption("*", scheme=scheme)
    port = None
    if (found := _PORT.fullmatch(host)) and _network(host) is None:
        host, port = found[1], int(found[2])
    if (network := _network(host)) is not None:
        return Exemption(network=network, scheme=scheme, port=port)
    name = host.removeprefix("*").strip(".")
    return Exemption(name, below_only=host.startswith((".", "*.")), scheme=scheme, port=port) if name else None


def _network(text: str) -> IPv4Network | IPv6Network | None:
    """Read an address or a network, IPv6 with or without brackets, its zone left out."""
    address, _, length = text.partition("/")
    address = f"{address}]" if address.startswith("[") and length.endswith("]") else address
    length = length.removesuffix("]")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    try:
        return ip_network(
            f"{address.partition('%')[0]}/{length}" if length else address.partition("%")[0], strict=False
        )
    except ValueError:
        return None


def proxy_address(variable: str, value: str) -> str:
    """
    Return the address of a proxy; without a scheme it is one of http, as for other programs.

    Raises `ClaidConfigurationError` that names the variable; user name and password are never shown.
    """
    text = value.strip()
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0) and parts.scheme in PROXY_SCHEMES
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text or parts.path.strip("/") or parts.query or parts.fragment:
        raise wrong_proxy(variable, value)
    return text


def wrong_proxy(variable: str, value: str) -> ClaidConfigurationError:
    """Return the error for a proxy that is none."""
    came = one_line(value.rpartition("@")[2], 100)
    shown = f"{came!r} after a user name and password (not shown)" if "@" in value else repr(came)
    return ClaidConfigurationError(_environment(variable), shown, _PROXY_FORM, f"Correct or unset {variable}.")


def missing_socks(variable: str) -> ClaidConfigurationError:
    """Return the error for a SOCKS proxy without the package that speaks with it."""
    return ClaidConfigurationError(
        _environment(variable),
        "the address of a SOCKS proxy, and the package socksio is not installed",
        "a proxy that this Python can speak with",
        f"Install httpx[socks], or set {variable} to an http:// proxy.",
    )


def wrong_certificates(variable: str, came: str, accepted: str) -> ClaidConfigurationError:
    """Return the error for certificates that cannot be read."""
    fix = f"Correct {variable}, or unset it for the certificates of the package certifi."
    return ClaidConfigurationError(_environment(variable), one_line(came), accepted, fix)


def proxy_variable(scheme: str, environ: Mapping[str, str]) -> str:
    """Return the name of the variable that a proxy came from; lower case wins, as everywhere."""
    names = [name for name in environ if name.lower() == f"{scheme}_proxy" and environ[name]]
    return next((name for name in names if name.islower()), names[0] if names else f"{scheme.upper()}_PROXY")


def _environment(variable: str) -> str:
    return f"environment variable {variable}"
