"""What may name something in a store: keys of artifacts and topics, names of small files."""

from __future__ import annotations

import re

_KEY = re.compile(r"[0-9a-f]{64}")
# The stores' own folders, and what would be hidden, escape from the store or be taken for a pattern.
_RESERVED = re.compile(r"(scratch|locks|notes|artifacts|published|uploads|downloads|[0-9a-f]{2})(/|$)")
_PART = re.compile(r"[^/\\*?\[\]\x00-\x1f.][^/\\*?\[\]\x00-\x1f]*")


def is_key(text: str) -> bool:
    """Whether this is a content digest in full length."""
    return _KEY.fullmatch(text) is not None


def checked_key(key: str) -> str:
    """The key, if it is one.

    Raises:
        ValueError: it is not.
    """
    if not is_key(key):
        message = f"a key is 64 hexadecimal digits, got {key!r}"
        raise ValueError(message)
    return key


def checked_name(name: str) -> str:
    """The name of a small file or of a folder of them, if it is one.

    Raises:
        ValueError: it is not.
    """
    if not all(_PART.fullmatch(part) for part in name.split("/")) or _RESERVED.match(name):
        message = (
            "a file of the store has a name like jobs/<id>/state.json: relative, no part of it empty or with a dot in front, "
            f"without any of \\ * ? [ ], not in the store's own folders; got {name!r}"
        )
        raise ValueError(message)
    return name
