"""The address of a remote store, taken apart: which file system of fsspec, which options, which folder there.

Options may stand in the query, ``s3://bucket/folder?endpoint_url=http://host:9000``, and user and password before the host. For S3
these are access key and secret key, though the environment and the files that its clients read are a better place for them.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from autoopt.errors import UserError
from autoopt.workers.store.urls import SECRET_NAME, is_unescaped, masked, scrubbed


@dataclass(frozen=True)
class Protocol:
    """What autoopt knows of a protocol; one that is not listed is taken for a file system with folders."""

    install: str | None = None
    """What pip installs for it; None where nothing is needed."""
    objects: bool = False
    """An object appears whole or not at all, and there are no folders to be made."""
    options: dict[str, Any] = field(default_factory=dict)
    """For the file system, unless the address says otherwise."""
    one_request: dict[str, Any] = field(default_factory=dict)
    """For reading a small object: without them it is asked for its size first."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Of the file system, that its options do not cover."""
    connects_late: bool = False
    """Its options are looked at when it connects, not when it is made."""


# We try again ourselves, for longer than the client would, and say so. Checksums are our own: servers other than Amazon's
# do not all know those that its client sends unasked.
_S3 = Protocol(
    "autoopt[s3]",
    objects=True,
    options={
        "config_kwargs": {
            "retries": {"total_max_attempts": 1},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
    },
    one_request={"max_concurrency": 1},
    attributes={"retries": 1},
    connects_late=True,
)
_GOOGLE, _AZURE, _SSH = Protocol("gcsfs", objects=True), Protocol("adlfs", objects=True), Protocol("paramiko")
PROTOCOLS = {
    "s3": _S3,
    "s3a": _S3,
    "gs": _GOOGLE,
    "gcs": _GOOGLE,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "oss": Protocol("ossfs", objects=True),
    "oci": Protocol("ocifs", objects=True),
    "sftp": _SSH,
    "ssh": _SSH,
    "smb": Protocol("smbprotocol"),
    "webdav": Protocol("webdav4"),
    "hdfs": Protocol("pyarrow"),
    "ftp": Protocol(),
}

_KEY_NAMES = {"s3": ("key", "secret"), "s3a": ("key", "secret")}
_NAMES = re.compile(r"user|name|account", re.IGNORECASE)
_FOR_HUMANS = ("s3", "gs", "az", "sftp", "smb", "webdav", "hdfs")


@dataclass(frozen=True, repr=False)
class Address:
    """Where a remote store is. Its text, as of `str` and `repr`, has no secrets."""

    protocol: str
    kind: Any
    """The file system's class."""
    shown: str
    """The address without its secrets."""
    root: str
    """The folder, as the file system names it."""
    options: dict[str, Any]
    """For the file system's class; may hold secrets."""
    _url: str

    def __str__(self) -> str:
        return self.shown

    __repr__ = __str__

    @property
    def traits(self) -> Protocol:
        """What is known of the protocol."""
        return PROTOCOLS.get(self.protocol, Protocol())

    @property
    def digest(self) -> str:
        """Names the store: the same with another password."""
        return hashlib.sha256(self.shown.rstrip("/").encode()).hexdigest()[:16]

    def scrubbed(self, text: str) -> str:
        """A text without this address's secrets."""
        return scrubbed(text, self._url)

    def open(self) -> Any:
        """A file system of its own, with no memory of listings: others write there, too.

        Raises:
            UserError: an option that the protocol does not know.
            Exception: whatever the file system's client raises where it connects at once.
        """
        try:
            opened = self.kind(**self.options, skip_instance_cache=True)
            if self.traits.connects_late:
                opened.connect()
        except TypeError as error:
            message = (
                f"the store {self} cannot be opened: {self.scrubbed(str(error))}; look at the options in its address"
            )
            raise UserError(message) from error
        opened.dircache.use_listings_cache = False
        for name, value in self.traits.attributes.items():
            setattr(opened, name, value)
        return opened


def parse(url: str) -> Address:
    """Take an address apart.

    Raises:
        UserError: there is no such protocol, its package is not installed, or the address names no folder.
    """
    shown = masked(url)
    protocol = url.partition("://")[0].lower()
    if "::" in url.partition("://")[0]:
        message = (
            f"the store {shown} is a chain of file systems; name the one where the files lie, as in s3://bucket/folder"
        )
        raise UserError(message)
    if is_unescaped(url):
        message = f"the store {shown} seems to have a / ? or # in its password; write %2F, %3F or %23 there"
        raise UserError(message)
    kind = file_system_class(protocol, shown)
    import fsspec

    bare, _, query = url.partition("?")
    split = urlsplit(bare)
    users = {
        name: unquote(value) for name, value in (("username", split.username), ("password", split.password)) if value
    }
    try:
        given = {name: _value(name, value) for name, value in parse_qsl(query, keep_blank_values=True)}
        if protocol in _KEY_NAMES:
            host = split.netloc.rpartition("@")[2]
            bare = f"{split.scheme}://{host}{split.path}"
            renamed = dict(zip(("username", "password"), _KEY_NAMES[protocol], strict=True))
            users = {renamed[name]: value for name, value in users.items()}
        from_url = kind._get_kwargs_from_urls(bare)  # noqa: SLF001 (the hook of fsspec's implementations: host, port, …)
        options = {**PROTOCOLS.get(protocol, Protocol()).options, **from_url, **users, **given}
        root = fsspec.core.strip_protocol(bare).rstrip("/")
    except ValueError as error:
        message = (
            f"the store {shown} is no usable address: {scrubbed(str(error), url)}; one looks like s3://bucket/folder"
        )
        raise UserError(message) from error
    if not root.strip("/") or re.search(r"[*\[\]]", root):
        message = f"the store {shown} names no folder; one looks like s3://bucket/folder, without any of * [ ]"
        raise UserError(message)
    return Address(protocol, kind, shown, root, options, url)


def file_system_class(protocol: str, shown: str) -> Any:
    """The class of fsspec that speaks the protocol.

    Raises:
        UserError: there is none, it needs a package, or it cannot keep a store.
    """
    if protocol == "memory":
        message = (
            f"the store {shown} would be lost with its process; name a folder, or an address such as s3://bucket/folder"
        )
        raise UserError(message)
    import fsspec

    try:
        return fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        known = PROTOCOLS.get(protocol)
        what = f'pip install "{known.install}"' if known and known.install else str(error)
        message = f"the store {shown} needs a package that is not installed: {what}"
        raise UserError(message) from error
    except ValueError as error:
        allowed = ", ".join(f"{name}://" for name in _FOR_HUMANS)
        message = (
            f"the store {shown} has a protocol that is not known; allowed are a folder's path, {allowed} and whatever else "
            "fsspec can write to"
        )
        raise UserError(message) from error


def _value(name: str, text: str) -> Any:
    """Options are text; what can only be a number, a truth or a structure becomes one."""
    if text in ("true", "false") or text.startswith(("{", "[")):
        return json.loads(text)
    is_number = text.isdecimal() and not SECRET_NAME.search(name) and not _NAMES.search(name)
    return int(text) if is_number else text
