"""A deployed config: artifact, manifest, checksums, expected outputs, measured numbers."""
