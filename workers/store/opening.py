"""The store that an address names."""

from __future__ import annotations

import os
import re
import uuid
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from autoopt.errors import StoreError, UserError
from autoopt.workers.store.address import parse
from autoopt.workers.store.base import Store
from autoopt.workers.store.local import LocalStore
from autoopt.workers.store.remote import RemoteStore
from autoopt.workers.store.urls import HIDDEN, is_url, masked

STORE = "AUTOOPT_STORE"
"""The variable that names the user's own store; where an address has a password, the only place that holds it."""
_LOST_A_SLASH = re.compile(r"[a-z][a-z0-9+.-]+:/(?!/)")


def open_store(where: str | Path) -> Store:
    """The store in a folder, which may be shared by several machines, or at any URL that fsspec can write to.

    Args:
        where: a path, or a URL such as ``s3://bucket/folder``. What a node fetches from a URL it keeps below ``$AUTOOPT_CACHE``,
            by default in the user's cache.

    Raises:
        UserError: the address cannot be used; nobody has been asked yet whether the store is there.
        StoreError: the folder, or that of the cache, cannot be made or written.
    """
    address = str(where)
    folder = _local_folder(address)
    return LocalStore(folder) if folder is not None else _remote(address, node_cache())


def full_address(where: str | Path) -> str:
    """The address as a process in another folder understands it: a URL as it is, a path in full. Asks nobody.

    Raises:
        UserError: the address cannot be used.
    """
    address = str(where)
    folder = _local_folder(address)
    if is_url(address):
        if folder is None:
            parse(address)
        return address
    return str(Path(address).expanduser().absolute())


def check_store(where: str | Path) -> None:
    """Write, read, list and remove a small file there: what a job will have to do. Takes seconds at most.

    Raises:
        UserError: the address cannot be used, or the store cannot be reached, is not there, or may not be written.
    """
    name, content = f"check-{uuid.uuid4().hex}", b"written by a check of the store; may be removed"
    address = str(where)
    try:
        folder = _local_folder(address)
        store: Store = (
            LocalStore(folder)
            if folder is not None
            else RemoteStore(address, _cache_of(address, node_cache()), patience_s=0)
        )
        store.files.write(name, content)
        kept, listed = store.files.read(name), store.files.names(name)
        store.files.remove(name)
        left = store.files.read(name)
    except StoreError as error:
        raise UserError(str(error)) from error
    if kept != content or listed != (name,):
        message = (
            f"the store {masked(address)} does not give back what is written to it; look at its address and options"
        )
        raise UserError(message)
    if left is not None:
        message = f"the store {masked(address)} does not let anything be removed; give credentials that may list, read, write and delete there"
        raise UserError(message)


def default_store() -> str:
    """The user's own: ``$AUTOOPT_STORE``, a path or a URL, else ``~/.cache/autoopt/store``."""
    named = os.environ.get(STORE)
    if not named:
        return str(_user_cache() / "store")
    return named if is_url(named) else str(Path(named).expanduser())


def node_cache() -> Path:
    """Where this node keeps copies of what is in remote stores: ``$AUTOOPT_CACHE``, else ``~/.cache/autoopt/remote``."""
    named = os.environ.get("AUTOOPT_CACHE")
    return Path(named).expanduser() if named else _user_cache() / "remote"


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "autoopt"


def _local_folder(address: str) -> Path | None:
    """The folder of this machine that is meant; None where it is elsewhere."""
    if not is_url(address):
        if _LOST_A_SLASH.match(address):
            meant = masked(address.replace(":/", "://", 1))
            message = f"the store {address.partition(':')[0]}:/… has lost a slash, as a URL does that is made a Path; give {meant} as text"
            raise UserError(message)
        return Path(address).expanduser()
    split = urlsplit(address)
    if split.scheme not in ("file", "local"):
        return None
    if split.netloc not in ("", "localhost") or not split.path:
        message = (
            f"the store {masked(address)} names a machine; a folder is file:///with/three/slashes, or its plain path"
        )
        raise UserError(message)
    return Path(unquote(split.path))


@cache
def _remote(url: str, cache_folder: Path) -> RemoteStore:
    """One for the process: it is asked often, and connecting takes longer than most answers."""
    return RemoteStore(url, _cache_of(url, cache_folder))


def _cache_of(url: str, cache_folder: Path) -> Path:
    """Folders for this user only: what is in them is unpickled."""
    folder = cache_folder / parse(url).digest
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = (
            f"the cache {folder} cannot be made: {error.strerror}; set AUTOOPT_CACHE to a folder that you may write to"
        )
        raise StoreError(message) from error
    if folder.stat().st_uid != os.getuid():
        message = f"the cache {folder} belongs to somebody else, who could put anything into it; set AUTOOPT_CACHE to a folder of your own"
        raise StoreError(message)
    return folder


def address_of(stored: str | None) -> str:
    """A job's store: what its files say of it, with the password that they do not hold.

    Args:
        stored: as in the job's files; None for the user's default.

    Raises:
        UserError: the password is not known here.
    """
    usual = default_store()
    if stored is None or masked(usual) == stored:
        return usual
    if HIDDEN in stored:
        message = f"the store {stored} needs a password, which the job's files do not hold: set AUTOOPT_STORE to its whole address"
        raise UserError(message)
    return stored
