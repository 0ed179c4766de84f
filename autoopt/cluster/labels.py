"""What a node says of itself in Ray's labels: of which kind it is, its processor, what is installed there."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping

from autoopt.cluster.look import Look
from autoopt.search.cluster import KIND

AUTOOPT, CPU, CUDA, HOST, NODE = "autoopt", "cpu", "cuda", "host", "node"
ENGINE = "engine."

# Ray's rule: 63 characters, letters and digits at both ends.
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST = 63


def labels_of(kind: str, node: str, look: Look) -> dict[str, str]:
    """The labels of a node.

    Args:
        kind: its kind of hardware.
        node: its name among those that were started on its machine.
        look: what its machine offers.
    """
    said = {
        KIND: kind,
        NODE: node,
        HOST: socket.gethostname(),
        AUTOOPT: look.autoopt,
        CPU: look.cpu,
        CUDA: look.cuda or "",
        **{ENGINE + name: version for name, version in look.engines.items()},
    }
    valid = {name: label_value(value) for name, value in said.items()}
    return {name: value for name, value in valid.items() if value}


def label_value(text: str) -> str:
    """The text as a label may hold it: what is not allowed becomes ``-``."""
    return _FORBIDDEN.sub("-", text).strip("-_.")[:_LONGEST].strip("-_.")


def engines_of(labels: Mapping[str, str]) -> dict[str, str]:
    """The engines that a node named, with their versions."""
    return {name.removeprefix(ENGINE): version for name, version in labels.items() if name.startswith(ENGINE)}
