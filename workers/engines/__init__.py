"""The inference runtimes, one file each."""
