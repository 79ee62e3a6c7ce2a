"""The address that this node advertises to clients and other nodes: `--advertise`, or else one computed from `--listen`.

Theory.

    --listen has          the advertised address
    an IP address         that address
    a host name           the IP address that it resolves to here. (Another machine may resolve it to another address, as
                          with `localhost`. If others are to resolve the name at each attempt, give it as `--advertise`.)
    a wildcard            the address of this machine beside loopback, if there is exactly one (a container, a pod, most
    (0.0.0.0, [::])       servers); loopback if there is none; an error that lists them if there are several

A wildcard cannot be advertised: each node that connected to it would reach itself. If there are several addresses, only
the operator knows which one others can reach. A guessed address would spread to all nodes and clients, and the guess might
change with the next reboot.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from server.core.ring.addresses import is_wildcard

_SIOCGIFADDR = 0x8915
_INTERFACE_BYTES = 40  # struct ifreq
_GLOBAL_SCOPE = "00"
LOOPBACK = {False: "127.0.0.1", True: "[::1]"}


class AddressError(Exception):
    """No address to advertise can be computed; the message says why and what to do."""


def advertised_address(listen: str, advertise: str = "") -> str:
    """Returns the address that a node listening on `listen` advertises. Raises AddressError."""
    if advertise:
        return advertise
    host, _, port = listen.rpartition(":")
    if is_wildcard(listen):
        return f"{_only(own_hosts(':' in host), listen)}:{port}"
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return f"{_resolved(host)}:{port}"
    return listen


def _only(hosts: list[str], listen: str) -> str:
    if len(hosts) != 1:
        raise AddressError(
            f"--listen {listen} is on all addresses of this machine, {', '.join(hosts)}: say with --advertise HOST:PORT "
            "at which one clients and other nodes find this node"
        )
    return hosts[0]


def _resolved(host: str) -> str:
    """Returns an address to which the host name resolves here; an IPv4 address if there are both kinds."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AddressError(f"the host name {host} of --listen leads to no address: {error.strerror}") from error
    hosts = dict.fromkeys(str(address[0]) for family, *_, address in found if family == socket.AF_INET)
    hosts = hosts or dict.fromkeys(f"[{address[0]}]" for *_, address in found)
    return next(iter(hosts))


def own_hosts(ipv6: bool) -> list[str]:
    """Returns the addresses of this machine beside loopback; loopback if there are no others."""
    return (_ipv6_hosts() if ipv6 else _ipv4_hosts()) or [LOOPBACK[ipv6]]


def _ipv4_hosts() -> list[str]:
    hosts = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack(f"{_INTERFACE_BYTES}s", name.encode()))
            except OSError:
                continue  # it has no address
            hosts.append(socket.inet_ntoa(answer[20:24]))
    return [host for host in dict.fromkeys(hosts) if not ip_address(host).is_loopback]


def _ipv6_hosts() -> list[str]:
    try:
        rows = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    except OSError:
        return []
    return [f"[{IPv6Address(int(row[0], 16))}]" for row in rows if row[3] == _GLOBAL_SCOPE]
