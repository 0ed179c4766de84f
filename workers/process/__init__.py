"""One function in one fresh process, with pinned cores and limits."""
