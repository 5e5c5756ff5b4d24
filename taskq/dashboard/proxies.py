"""Where a request comes from: forwarded headers count only from proxies that were named."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import Scope

from taskq.errors import ConfigError
from taskq.values.checks import shown

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SAME_SITE = 64
"""Leading bits of an IPv6 address that one client can have behind it."""


class Proxies:
    """The proxies in front of the dashboard.

    Only ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are read, and only from these proxies. Every other header of
    that kind (``X-Real-IP``, ``Forwarded``) is passed on by many proxies as the client sent it.

    Args:
        named: their addresses and networks, such as ``127.0.0.1`` or ``10.0.0.0/8``.

    Raises:
        ConfigError: one of them is not an address or network.
    """

    def __init__(self, named: Sequence[str] = ()) -> None:
        if isinstance(named, str):
            raise ConfigError(f"trusted_proxies must be a list; write: trusted_proxies=[{shown(named)}]")
        self._networks = [_network(name) for name in named]

    def seen(self, scope: Scope) -> Scope:
        """*scope* with the client and the scheme that a named proxy tells; as it is from anybody else."""
        if not self._networks or not self._trusts(_address((scope.get("client") or ("", 0))[0])):
            return scope
        headers = Headers(scope=scope)
        found = dict(scope)
        if (client := self._client(",".join(headers.getlist("x-forwarded-for")))) is not None:
            found["client"] = (client, 0)
        if (scheme := headers.get("x-forwarded-proto", "").strip().lower()) in ("http", "https"):
            found["scheme"] = scheme
        return found

    def _client(self, forwarded: str) -> str | None:
        """The last hop that is not one of our proxies: what stands before it is only what the client says."""
        last = None
        for hop in reversed(forwarded.split(",")):
            address = _address(hop.strip())
            if address is None:
                break
            last = str(address)
            if not self._trusts(address):
                break
        return last

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def grouped(client: str) -> str:
    """What attempts of *client* are counted by: its address; of IPv6 the network, since one client has all of it."""
    address = _address(client)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _SAME_SITE), strict=False))
    return client if address is None else str(address)


def _address(text: str) -> Address | None:
    """The address in ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``; None for others."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _network(name: str) -> Network:
    try:
        return ipaddress.ip_network(name.strip() if isinstance(name, str) else name, strict=False)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"a trusted proxy must be an address or network, such as 127.0.0.1 or 10.0.0.0/8, not {shown(name)}"
        ) from error
