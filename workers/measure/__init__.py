"""Timing and judging an artifact."""
