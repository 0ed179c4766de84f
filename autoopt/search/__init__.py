"""The controller: which candidate next, and when to stop."""
