"""The compression techniques, one file each."""
