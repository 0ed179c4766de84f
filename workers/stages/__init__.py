"""Content-addressed steps of work."""
