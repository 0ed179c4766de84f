"""URLs of stores and studies, as they may be shown."""

from __future__ import annotations

import re

_SECRET = re.compile(r"([?&](?:\w*pass\w*|\w*secret\w*|\w*token\w*)=)[^&]*", re.IGNORECASE)


def masked(url: str) -> str:
    """The URL with ``***`` for every password; what is no URL stays as it is.

    Rather too much than too little: whatever stands between the first colon and the last ``@`` counts as a password, for
    one may hold characters that nobody has encoded.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    shown = f"{user}:***@{place}" if colon else f"{credentials}{at}{place}"
    return f"{scheme}://" + _SECRET.sub(r"\1***", shown)
