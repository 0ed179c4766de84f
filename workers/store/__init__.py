"""The content-addressed artifact store."""

from autoopt.workers.store.base import Store
from autoopt.workers.store.local import LocalStore

__all__ = ["LocalStore", "Store"]
