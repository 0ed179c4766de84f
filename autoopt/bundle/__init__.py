"""A deployed config: artifact, manifest, checksums, expected outputs, measured numbers.

Importing this needs numpy only; `autoopt.bundle.load` and `verify` need the bundle's engine besides.
"""

from autoopt.bundle.export import export
from autoopt.bundle.load import Model, load
from autoopt.bundle.manifest import Manifest
from autoopt.bundle.verify import Verdict, verify

__all__ = ["Manifest", "Model", "Verdict", "export", "load", "verify"]
