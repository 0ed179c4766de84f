"""What a node is asked to be, and whether this machine can be that; nothing is started here."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

from autoopt.cluster import cores
from autoopt.cluster.access import DASHBOARD_PORT
from autoopt.cluster.hook import LOOPBACK
from autoopt.cluster.processes import is_loopback
from autoopt.errors import ClusterError
from autoopt.records.hardware import DEFAULT, DEVICES, is_kind
from autoopt.workers.node import Cores, Node, share_cores

PORT = 6379
"""Ray's usual one."""
_PORTS = range(1024, 65536)


@dataclass(frozen=True)
class Wish:
    """A node as its user describes it."""

    join: str | None = None
    """The address ``host:port`` of the head; None for a head."""
    kind: str = DEFAULT
    """Of hardware."""
    cores: tuple[int, ...] | None = None
    """Of the node; None: all that this process may use."""
    share_cores: bool = False
    """Whether other nodes of this machine may have the same ones, though their measurements disturb each other then."""
    lane_cores: int | None = None
    """How many of them only measure; None: half."""
    measures: bool = True
    """Whether it has a lane."""
    trainers: int | None = None
    """How many train at a time; None leaves it to the cores."""
    builders: int | None = None
    """How many build at a time; None leaves it to the cores."""
    host: str | None = None
    """The address of this machine by which the others reach it; None: this machine is all."""
    port: int = PORT
    """A head's server."""
    dashboard_port: int = DASHBOARD_PORT
    """Its dashboard, which clients talk to."""
    temp_dir: Path | None = None
    """The folder of all clusters here."""


def node_of(wish: Wish) -> Node:
    """The node that is wished for, without its meeting folder.

    Raises:
        ClusterError: its kind, cores or slots cannot be.
    """
    if not is_kind(wish.kind):
        message = (
            f"{wish.kind!r} cannot name a kind of hardware: that is 63 letters, digits, '-', '_' and '.' at most, and none of "
            f"{', '.join(DEVICES)}, which are devices of a node"
        )
        raise ClusterError(message)
    for name, count, fewest in (("trainers", wish.trainers, 0), ("builders", wish.builders, 1)):
        if count is not None and count < fewest:
            message = f"--{name} must be {fewest} or more, not {count}"
            raise ClusterError(message)
    return Node(_cores_of(wish), kind=wish.kind, trainers=wish.trainers, builders=wish.builders)


def host_of(wish: Wish) -> str:
    """The address by which the others reach the node.

    Raises:
        ClusterError: it is not this machine's, or does not go with the head's.
    """
    if wish.join is not None:
        head, _ = split_address(wish.join)
        at_home = _resolved(head).startswith("127.")
        if at_home and not _is_home(wish.host):
            message = f"a head on {head} is reached from its own machine only, so --host {wish.host} cannot join it; leave --host away"
            raise ClusterError(message)
        if not at_home and _is_home(wish.host):
            message = f"a node that joins {wish.join} must be reached from there: give --host ADDRESS; this machine has {_addresses()}"
            raise ClusterError(message)
    if _is_home(wish.host):
        return LOOPBACK
    assert wish.host is not None
    found = _resolved(wish.host)
    if found not in _own_addresses():
        message = f"--host {wish.host} is no address of this machine; it has {_addresses()}"
        raise ClusterError(message)
    return found


def split_address(address: str) -> tuple[str, int]:
    """The host and the port.

    Raises:
        ClusterError: it is no ``host:port``.
    """
    host, separator, port = address.rpartition(":")
    if not separator or not host or "/" in host or not port.isdecimal() or int(port) not in range(1, 65536):
        message = (
            f"{address!r} is not the address of a head; write host:port, as `autoopt cluster up` on the head printed it"
        )
        raise ClusterError(message)
    return host, int(port)


def check_ports(wish: Wish, host: str) -> None:
    """Whether a head can listen where it is asked to.

    Raises:
        ClusterError: a port is no port, is taken, or the two are the same.
    """
    if wish.port == wish.dashboard_port:
        message = f"--port and --dashboard-port are both {wish.port}; give two"
        raise ClusterError(message)
    for option, port in (("--port", wish.port), ("--dashboard-port", wish.dashboard_port)):
        if port not in _PORTS:
            message = f"{option} must be between {_PORTS[0]} and {_PORTS[-1]}, not {port}"
            raise ClusterError(message)
        _check_free(host, port, option)


def _check_free(host: str, port: int, option: str) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # Ray's server listens on all interfaces where its host is not loopback.
            listener.bind((host if is_loopback(host) else "", port))
        except OSError as error:
            message = f"port {port} of {host} is taken ({error.strerror}); give another one ({option})"
            raise ClusterError(message) from error


def _cores_of(wish: Wish) -> Cores:
    available = wish.cores or tuple(sorted(os.sched_getaffinity(0)))
    if not wish.measures:
        if wish.lane_cores is not None:
            message = "--no-lane and --lane-cores exclude each other: a node without a lane keeps no cores for it"
            raise ClusterError(message)
        return Cores(lane=(), work=available)
    if wish.lane_cores is not None and not 1 <= wish.lane_cores <= len(available):
        message = f"--lane-cores must be between 1 and {len(available)}, the node's cores ({cores.shown(available)}), not {wish.lane_cores}"
        raise ClusterError(message)
    return share_cores(wish.lane_cores, available)


def _is_home(host: str | None) -> bool:
    return host in (None, LOOPBACK, "localhost")


def _resolved(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        message = f"the host {host!r} has no address ({error.strerror or error}); give one that this machine can look up, or its number"
        raise ClusterError(message) from error


def _own_addresses() -> list[str]:
    found = (address for each in psutil.net_if_addrs().values() for address in each)
    return [
        address.address for address in found if address.family == socket.AF_INET and not is_loopback(address.address)
    ]


def _addresses() -> str:
    return ", ".join(_own_addresses()) or "none but loopback"
