"""One function in one fresh process, with pinned cores and limits.

A call costs a fork of a warmed parent (some 20 ms), not the seconds that importing torch or an engine takes; nothing that the
function does (threads, affinity, environment, a crash) reaches the next call.
"""

from autoopt.workers.process.caller import call, share, shutdown
from autoopt.workers.process.limits import JSON, Limits, Preload
from autoopt.workers.process.system import ancestor

__all__ = ["JSON", "Limits", "Preload", "ancestor", "call", "share", "shutdown"]
