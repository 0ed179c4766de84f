"""What a finished (or interrupted) job shows to people and to pandas."""
