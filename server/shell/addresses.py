"""The address that this node hands to clients and other nodes: the advertised one, or what follows from `--listen`.

Theory. A wildcard (0.0.0.0, [::]) is for listening only; handed on it would lead each node to itself. So is a host name
that a node listens on: it may mean something else elsewhere, as `localhost` does, so the IP address that it stands for
here is handed on. A name that is to be handed on, and resolved by others at each attempt, is given as `--advertise`.

A wildcard alone is enough where there is no choice: on a machine with one address beside loopback (a container, a pod, most
servers), or with none. Where there are several, only the operator knows which of them others can reach: the node refuses
to start and lists them. A guess would be handed to all nodes and clients, and would be wrong after the next reboot.
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
    """There is no one address to hand on; the message says why and what to do."""


def advertised_address(listen: str, advertise: str = "") -> str:
    """Where others find a node that listens on `listen`. Raises AddressError."""
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
    """The address that a host name stands for here; an IPv4 one if there are both kinds."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AddressError(f"the host name {host} of --listen leads to no address: {error.strerror}") from error
    hosts = dict.fromkeys(str(address[0]) for family, *_, address in found if family == socket.AF_INET)
    hosts = hosts or dict.fromkeys(f"[{address[0]}]" for *_, address in found)
    return next(iter(hosts))


def own_hosts(ipv6: bool) -> list[str]:
    """The addresses of this machine beside loopback; loopback if there are no others."""
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
