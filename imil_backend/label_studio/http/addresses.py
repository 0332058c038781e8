"""Which addresses images may come from, checked at the moment of the connection.

A task's image is an address that somebody wrote into a task. Without a check it could make the backend ask
its own machine, the network that it stands in, or a cloud's metadata service. A host name is looked up once,
what it resolves to is checked, and that very address is connected to: a name that means another address the
next time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.util import Retry

from imil_backend.errors import ImageError
from imil_backend.label_studio.http.deadlines import (
    WatchedAdapter,
    WatchedHTTPConnection,
    WatchedHTTPSConnection,
)

PUBLIC = "public"
# What some Pythons take for public. Site-local IPv6 (RFC 3879) is a network's own. Some of IPv6 leads to an
# IPv4 address that may be anything: IPv4-compatible (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052, RFC
# 8215), 6to4 (RFC 3056). Others are special by IANA's registries: 192.0.0.0/24, where Oracle's cloud has its
# metadata, 6to4 relays, documentation, segment routing. Azure's machines ask 168.63.129.16 for theirs.
NOT_PUBLIC = tuple(
    ipaddress.ip_network(each)
    for each in (
        *("fec0::/10", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16"),
        *("192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "5f00::/16", "168.63.129.16/32"),
    )
)
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class AllowedHosts:
    """The hosts that images may come from, beside Label Studio's own.

    Args:
        entries: host names (`pacs.example.org`, with a port or without), addresses, networks
            (`10.1.0.0/16`), and `public` for every public address. None at all means `public`.

    Raises:
        ValueError: an entry is none of these.
    """

    def __init__(self, entries: Sequence[str] = ()) -> None:
        self._public = not entries or PUBLIC in entries
        self._networks: list[IpNetwork] = []
        self._names: set[str] = set()
        for entry in entries:
            if "/" in entry:
                self._networks.append(ipaddress.ip_network(entry))
            elif entry != PUBLIC:
                self._names.add(entry.casefold())

    def resolve(self, host: str, port: int) -> str:
        """An address of the host that may be connected to.

        Raises:
            ImageError: the host is not known, or none of its addresses may be asked.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise ImageError(f"The host {host} of an image is unknown.") from None
        addresses = [str(entry[4][0]) for entry in found]
        named = {host.casefold(), f"{host.casefold()}:{port}"} & self._names
        for address in addresses:
            if named or self._allows(address):
                return address
        raise ImageError(
            f"Images are not fetched from {host} ({addresses[0]}): {self._why(addresses[0])}. To "
            "allow it, add the host or its network to IMIL_IMAGE_HOSTS."
        )

    def _allows(self, address: str) -> bool:
        ip = _ip(address)
        return (self._public and _is_public(ip)) or any(ip in network for network in self._networks)

    def _why(self, address: str) -> str:
        return "it is not in the list" if _is_public(_ip(address)) else "it is not a public address"


def guarded_adapter(allowed: AllowedHosts, retries: Retry) -> WatchedAdapter:
    """An adapter of requests whose connections go to allowed hosts only."""

    class GuardedHTTPConnection(WatchedHTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, allowed, super()._new_conn)

    class GuardedHTTPSConnection(WatchedHTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, allowed, super()._new_conn)

    return WatchedAdapter(retries, GuardedHTTPConnection, GuardedHTTPSConnection)


def guarded_session(allowed: AllowedHosts, retries: Retry) -> requests.Session:
    """A session for images of other hosts: no proxy, no .netrc, no cookies of Label Studio's.

    A proxy would look the names up itself, past the check.
    """
    session = requests.Session()
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, guarded_adapter(allowed, retries))
    return session


def origin(url: str) -> str:
    """Scheme, host and port, the default port spelled out.

    Raises:
        ImageError: the address has an impossible host or port.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        raise ImageError("The URL has an invalid host or port.") from None
    return f"{parts.scheme}://{parts.hostname}:{port}"


def host_of(url: str) -> str:
    """The host alone: paths and queries may hold names and signatures."""
    return urlsplit(url).hostname or "a URL without a host"


def _connect(connection: Any, allowed: AllowedHosts, connect: Any) -> socket.socket:
    """Connect to the address that was checked; the name stays what TLS is checked against."""
    name = connection._dns_host
    connection._dns_host = allowed.resolve(name, connection.port)
    try:
        opened: socket.socket = connect()
        return opened
    finally:
        connection._dns_host = name


def _ip(address: str) -> IpAddress:
    ip = ipaddress.ip_address(address.partition("%")[0])  # without the interface of a link-local address
    return getattr(ip, "ipv4_mapped", None) or ip


def _is_public(ip: IpAddress) -> bool:
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in NOT_PUBLIC)
