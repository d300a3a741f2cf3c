"""Which addresses of pictures are accepted from a server, and which hosts it may send us to. No I/O."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import quote, urlsplit

SCHEMES = frozenset({"http", "https", "s3", "gs", "gcs", "storage"})
"""What the address of a picture may begin with; anything else (`javascript:`, `data:`, `file:`) is no address."""

MAX_ADDRESS = 65_536
"""Characters of an address; a longer one is no address, and half of one would be another."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

Address = IPv4Address | IPv6Address

_NAT64 = ip_network("64:ff9b::/96")
_IN_CLAIDS_HANDS = ("claid.ai", "storage.googleapis.com")
_LOCAL_NAMES = ("localhost", "local", "internal", "intranet", "lan", "home.arpa", "localdomain")


def accepted(text: str, *, files: bool = False) -> str | None:
    """
    Return the address of a picture as it can be kept and shown; None for what is none.

    Line ends and tabs in it are left out, as browsers do; control characters are percent-encoded. `files`: also
    `file://`, which only a sandbox has.
    """
    text = re.sub(r"[\t\r\n]", "", text.strip())
    found = _SCHEME.match(text)
    if found is None or len(text) > MAX_ADDRESS:
        return None
    scheme = found[1].lower()
    if scheme not in SCHEMES and not (files and scheme == "file"):
        return None
    text = scheme + "".join(_encoded(char) for char in text[len(scheme) :])
    try:
        named = bool(urlsplit(text).netloc)
    except ValueError:
        return None
    return text if named or scheme == "file" else None


def _encoded(char: str) -> str:
    return char if char.isprintable() else quote(char.encode(errors="replace"))


def is_local_name(host: str) -> bool:
    """Tell whether a host name or address says by itself that it is of this machine or network. Asks nobody."""
    if (found := literal(host)) is not None:
        return not is_public(found)
    name = host.lower().rstrip(".")
    return "." not in name or any(name.endswith(f".{each}") for each in _LOCAL_NAMES)


def literal(host: str) -> Address | None:
    """Read a host that is an address, in each form that resolvers take: `127.0.0.1`, `2130706433`, `0x7f.1`, `::1`."""
    host = host.strip("[]").rstrip(".").partition("%")[0]
    try:
        return ip_address(host)
    except ValueError:
        pass
    if not re.fullmatch(r"[0-9a-fA-FxX.]+", host) or not host[0].isdigit():
        return None
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the open Internet; an IPv4 address inside an IPv6 one is judged itself."""
    address = _inner(address)
    return address.is_global and not address.is_multicast and not getattr(address, "is_site_local", False)


def may_be_reached(host: str, address: Address) -> bool:
    """
    Tell whether a picture may be read at this address of this host.

    Public ones; and of the two hosts that Claid uses, also private ones: there the user's own network decides (Google's
    private service access, a transparent proxy). Never this machine, nor its link with its metadata service.
    """
    if is_public(address):
        return True
    address = _inner(address)
    own = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    name = host.lower().rstrip(".")
    return not own and any(name == each or name.endswith(f".{each}") for each in _IN_CLAIDS_HANDS)


def _inner(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1] or address
