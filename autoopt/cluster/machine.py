"""Checks of one machine: of this one by the doctor, and of every node by what it said of itself."""

from __future__ import annotations

import os
import shutil

from autoopt.cluster import cores
from autoopt.cluster.checks import Check, ok, problem, warning
from autoopt.cluster.host import Host
from autoopt.cluster.joining import Versions
from autoopt.cluster.look import Look

FULL_BYTES, TIGHT_BYTES = 500_000_000, 5_000_000_000
_INSTALL = "pip install 'autoopt[cpu]'"


def check_packages(where: str, versions: Versions) -> Check:
    """What is installed."""
    return ok(where, f"autoopt {versions.autoopt}, Ray {versions.ray}, Python {versions.python}")


def check_engines(where: str, found: Look, *, needed: bool = True) -> Check:
    """Which engines can be used; a client's machine needs none."""
    there = ", ".join(f"{name} {version}" for name, version in found.engines.items())
    missing = "; ".join(f"{name}: {why}" for name, why in found.refused.items())
    if not there and not needed:
        return ok(where, "none, and a client needs none")
    if not there:
        return problem(where, f"no engine can be used ({missing})", _INSTALL)
    return ok(
        where, f"{there}{f'; not usable: {missing}' if missing else ''}{f'; GPU {found.cuda}' if found.cuda else ''}"
    )


def check_compiler() -> Check:
    """What Inductor builds with."""
    compiler = os.environ.get("CXX", "g++")
    place = shutil.which(compiler)
    if place is None:
        return warning(
            "compiler", f"{compiler} is not on the PATH, so Inductor builds nothing", "apt install g++, or set CXX"
        )
    return ok("compiler", place)


def check_cores(where: str, host: Host) -> Check:
    """How the cores are shared out."""
    shared = host.cores
    if host.missing_cores:
        return problem(
            where,
            f"core {cores.shown(host.missing_cores)} may not be used there",
            "start the node with others (--cores)",
        )
    if not shared.lane:
        return ok(where, f"{cores.shown(shared.work)} work, none measures")
    if shared.exclusive:
        return warning(
            where,
            f"{cores.shown(shared.lane)} measure and work, so that one waits for the other",
            "give the node more cores, or fewer of them to the lane",
        )
    return ok(where, f"{cores.shown(shared.lane)} measure, {cores.shown(shared.work)} work")


def check_disks(where: str, host: Host) -> Check:
    """Whether there is room for what stages write."""
    told = ", ".join(f"{free / 1e9:.3g} GB free in {folder}" for folder, free in host.free_bytes.items())
    least = min(host.free_bytes.values())
    if least < FULL_BYTES:
        return problem(where, told, "make room there, or set TMPDIR and AUTOOPT_CACHE to other disks")
    if least < TIGHT_BYTES:
        return warning(where, told, "a large task's artifacts may fill it: set TMPDIR and AUTOOPT_CACHE to other disks")
    return ok(where, told)


def check_token(where: str, host: Host) -> Check:
    """Whether others can read the token."""
    if host.open_token is not None:
        return problem(
            where,
            f"other users can read {host.open_token}, and whoever has it may run any program",
            f"chmod 600 {host.open_token}",
        )
    return ok(where, "for its user alone")
