"""Connections that lead to public addresses only, whatever a host's name is made to mean."""

from __future__ import annotations

import functools
import http.client
import ipaddress
import socket
import urllib.request
from collections.abc import Iterable
from typing import Any

from momentary.errors import DataError

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def public_handlers(named: Iterable[str]) -> list[urllib.request.BaseHandler]:
    """What opens http and https URLs; for urllib's `OpenerDirector`.

    A host is looked up once, all of its addresses are judged, and one of these very addresses is
    connected to, so that another answer a moment later (DNS rebinding) changes nothing.

    Args:
        named: Hosts that were named on purpose: one that is an address, or localhost, may be
            private.
    """
    hosts = frozenset(named)
    return [_Handler(hosts), _SecureHandler(hosts)]


def is_public(address: str) -> bool:
    """Whether an address is everybody's; one that carries another inside counts as both.

    >>> is_public("93.184.216.34"), is_public("::ffff:127.0.0.1"), is_public("64:ff9b::a00:1")
    (True, False, False)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.teredo is not None:
            return False
    return ip.is_global and not ip.is_multicast


def connected(
    place: tuple[str, int],
    timeout_s: float | None = None,
    source: tuple[str, int] | None = None,
    *,
    named: frozenset[str] = frozenset(),
) -> socket.socket:
    """Connect to a host, as `socket.create_connection` does.

    Raises:
        DataError: If the name leads into a private network.
        OSError: Nobody knows the host, or it does not answer.
    """
    host, port = place
    found = [str(to[0]) for *_, to in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    private = next((address for address in found if not is_public(address)), None)
    if private is not None and not (host in named and (host == "localhost" or host in found)):
        raise DataError(f"its host leads to {private}, which is no public address.")
    failed = OSError("the host has no address")
    for address in dict.fromkeys(found):
        try:
            return socket.create_connection((address, port), timeout_s, source)
        except OSError as error:
            failed = error
    raise failed


class _Handler(urllib.request.HTTPHandler):
    def __init__(self, named: frozenset[str]) -> None:
        super().__init__()
        self.named = named

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_to(http.client.HTTPConnection, self.named), req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def __init__(self, named: frozenset[str]) -> None:
        super().__init__()
        self.named = named

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_to(http.client.HTTPSConnection, self.named), req)


def _to(kind: type[http.client.HTTPConnection], named: frozenset[str]) -> Any:  # noqa: ANN401
    def make(host: str, **options: Any) -> http.client.HTTPConnection:  # noqa: ANN401
        connection = kind(host, **options)
        # The name stays: TLS compares it with the certificate, and the server is told it.
        connect = functools.partial(connected, named=named)
        connection._create_connection = connect  # type: ignore[attr-defined]  # noqa: SLF001
        return connection

    return make
