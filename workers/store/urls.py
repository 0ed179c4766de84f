"""Addresses of stores and studies as they may be shown: what is secret in them is hidden, all else stays readable.

Where an address is not well formed (a password with an unescaped ``/``), too much is hidden rather than too little.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_plus

HIDDEN = "***"

SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|cred|signature|auth|sas", re.IGNORECASE)
"""What the name of a parameter has in it whose value nobody may see."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*::)*[A-Za-z][A-Za-z0-9+.-]*://")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST = re.compile(r"[^/?#]*")
_PARAMETER = re.compile(r"([^&;=]*)=([^&;]*)")
_SHORTEST_TOLD_APART = 4


def is_url(where: str) -> bool:
    """Whether this names a protocol, and is not a plain path."""
    return _URL.match(where) is not None


def masked(url: str) -> str:
    """The address with ``***`` in place of passwords and secret parameters; a user's name, and a plain path, stay."""
    shown, end = "", 0
    for start, stop in _secrets(url):
        shown, end = f"{shown}{url[end:start]}{HIDDEN}", stop
    return shown + url[end:]


def has_secret(url: str) -> bool:
    """Whether the address holds a password or a secret parameter."""
    return any(True for _ in _secrets(url))


def scrubbed(text: str, url: str) -> str:
    """A text, of an error say, without what is secret in the address."""
    text = text.replace(url, masked(url))
    raw = {url[start:stop] for start, stop in _secrets(url)}
    # Very short ones would be found in half of all words, and whoever chose them has other worries.
    found = {secret for secret in raw | {unquote_plus(one) for one in raw} if len(secret) >= _SHORTEST_TOLD_APART}
    for secret in sorted(found, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def is_unescaped(url: str) -> bool:
    """Whether a password seems to have a ``/``, ``?`` or ``#`` in it, which ends what stands before the path."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return False
    host = _host(url, scheme.end())
    return "@" not in host and not _ends_in_port(host) and _end_of_user(url, scheme.end()) > scheme.end()


def _secrets(url: str) -> Iterator[tuple[int, int]]:
    """Where in the address secrets stand: first and one after the last character, in order, apart from each other."""
    scheme = _SCHEME.search(url)
    if scheme is None:
        return
    at = _end_of_user(url, scheme.end())
    colon = url.find(":", scheme.end(), at)
    if 0 <= colon < at - 1:
        yield colon + 1, at
    question = url.find("?", at)
    if question < 0:
        return
    for parameter in _PARAMETER.finditer(url, question + 1):
        start, stop = parameter.span(2)
        if start == stop:
            continue
        if _is_secret(parameter[1], parameter[2]):
            yield start, stop
        else:
            yield from ((start + first, start + last) for first, last in _secrets(parameter[2]))


def _end_of_user(url: str, start: int) -> int:
    """Where the ``@`` after user and password stands; the start where there is none."""
    host = _host(url, start)
    if "@" in host:
        return start + host.rindex("@")
    if ":" not in host or host.startswith("["):
        return start
    # "host:22/home" or "user:22/part of a password@host"? With a number only a path, not a query, makes it the latter.
    question = url.find("?", start)
    end = question if question >= 0 and _ends_in_port(host) else len(url)
    return max(url.rfind("@", start, end), start)


def _host(url: str, start: int) -> str:
    """What stands before the path, with user and password where they are escaped as they should be."""
    found = _HOST.match(url, start)
    return found[0] if found else ""


def _ends_in_port(host: str) -> bool:
    return re.fullmatch(r"\d*", host.rpartition(":")[2]) is not None


def _is_secret(name: str, value: str) -> bool:
    if SECRET_NAME.search(unquote_plus(name)):
        return True
    plain = unquote_plus(value)
    # A structure of options, or an address within the address that cannot be masked in place.
    return (plain.startswith(("{", "[")) and SECRET_NAME.search(plain) is not None) or (
        plain != value and has_secret(plain)
    )
