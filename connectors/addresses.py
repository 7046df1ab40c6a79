"""Which network addresses a connector may call: the public ones, unless the city file allows private ones for that feed.

A feed's answer may redirect, and a name may resolve to anything; so the check is made on addresses, after resolution, for every connection.
"""

from __future__ import annotations

import ipaddress
import socket

from models.errors import FeedUnavailable


class ForbiddenAddress(FeedUnavailable):
    """A private, loopback, link-local, multicast or reserved address that the feed is not allowed to call."""


def is_public(address: str) -> bool:
    """
    >>> [is_public(a) for a in ("8.8.8.8", "127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:127.0.0.1", "2001:4860:4860::8888", "0.0.0.0")]
    [True, False, False, False, False, False, True, False]
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and (inner := ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]) is not None:
        ip = inner
    return ip.is_global and not ip.is_multicast


def check(host: str, address: str, allow_private: bool) -> None:
    """
    Raises:
        ForbiddenAddress: the address is not public and private ones are not allowed.
    """
    if not allow_private and not is_public(address):
        raise ForbiddenAddress(f"{host} is {address}, which is not a public address (allow_private = true permits it)")


def resolve(host: str, port: int, allow_private: bool) -> list[str]:
    """Addresses of a host, all of them checked. Blocks: for threads.

    Raises:
        ForbiddenAddress: one of them is not public.
        FeedUnavailable: the name does not resolve.
    """
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError as e:
        raise FeedUnavailable(f"{host} does not resolve ({e.strerror or e})") from e
    for address in found:
        check(host, address, allow_private)
    return found


def is_literal(host: str) -> bool:
    """Whether a host is an address already, and not a name.

    >>> is_literal("127.0.0.1"), is_literal("::1"), is_literal("localhost")
    (True, True, False)
    """
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
