"""The search space: which choices exist, and which depend on which."""
