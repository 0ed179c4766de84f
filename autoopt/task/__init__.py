"""The task: what is optimized."""
