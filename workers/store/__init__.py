"""The content-addressed artifact store: in a folder, or at any URL that fsspec can write to."""

from autoopt.workers.store.base import Store
from autoopt.workers.store.local import LocalStore
from autoopt.workers.store.opening import (
    address_of,
    check_store,
    default_store,
    full_address,
    node_cache,
    open_store,
)
from autoopt.workers.store.remote import RemoteStore
from autoopt.workers.store.urls import has_secret, is_url, masked, scrubbed

__all__ = [
    "LocalStore",
    "RemoteStore",
    "Store",
    "address_of",
    "check_store",
    "default_store",
    "full_address",
    "has_secret",
    "is_url",
    "masked",
    "node_cache",
    "open_store",
    "scrubbed",
]
