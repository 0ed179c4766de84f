"""Names of hardware: a kind of node, and the device on it.

A node says of which kind it is (``autoopt cluster up --hardware edge``); one that says nothing is of the kind "default", and so
is the machine of a local job. A candidate names what it is served by:

* ``cpu``, ``cuda``, ``gpu``, ``npu``: that device of a node of the kind "default";
* ``edge``: the processor of a node of the kind "edge";
* ``edge:cuda``: another device of such a node.
"""

from __future__ import annotations

import re

DEFAULT = "default"
"""The kind of a node that was given no other."""
DEVICES = ("cpu", "cuda", "gpu", "npu")
"""What an engine may run on."""

# As Ray's labels, so that a kind can be one.
_KIND = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def parse(name: str) -> tuple[str, str]:
    """The kind of node and the device that a candidate's hardware names."""
    if name in DEVICES:
        return DEFAULT, name
    kind, _, device = name.partition(":")
    return kind, device or DEVICES[0]


def named(kind: str, device: str) -> str:
    """What a candidate calls a device on a kind of node; the opposite of `parse`."""
    if kind == DEFAULT:
        return device
    return kind if device == DEVICES[0] else f"{kind}:{device}"


def is_kind(name: str) -> bool:
    """Whether nodes may be called so: 63 letters, digits, '-', '_' and '.' at most, and no device's name."""
    return name not in DEVICES and _KIND.fullmatch(name) is not None
