"""People who are logged in at a proxy, which names them in a header: they may see the dashboard."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from flask import Request

from imil_backend.config import Settings
from imil_backend.errors import SettingsError

NOBODY = frozenset({"", "-", "(null)"})  # what proxies send where nobody is logged in


@dataclass(frozen=True)
class ProxyLogin:
    """Which proxies are believed, and in which header they name a person; without proxies, none."""

    header: str
    proxies: tuple[IPv4Network | IPv6Network, ...]

    @classmethod
    def from_settings(cls, settings: Settings) -> ProxyLogin:
        """Read header and proxies.

        Raises:
            SettingsError: one of the two is missing, so that nobody or anybody could be believed.
        """
        header, proxies = settings.dashboard_user_header, settings.dashboard_proxies
        if bool(header) != bool(proxies):
            raise SettingsError(
                "Only one of IMIL_DASHBOARD_USER_HEADER and IMIL_DASHBOARD_PROXIES is set: set both, the "
                "header that names who is logged in, and the addresses of the proxies that send it."
            )
        return cls(header or "", tuple(ip_network(each) for each in proxies))

    def knows(self, request: Request) -> bool:
        """Whether one of the proxies has sent the request, and says that somebody is logged in."""
        if not self.proxies or not request.remote_addr:
            return False
        sender = ip_address(request.remote_addr)
        sender = getattr(sender, "ipv4_mapped", None) or sender  # where it listens on IPv6 as well
        named = request.headers.get(self.header, "").strip() not in NOBODY
        return named and any(sender in proxy for proxy in self.proxies)
