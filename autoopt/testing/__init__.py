"""Conformance suites for engines and techniques, for our own and for those of others."""
