"""A job: one search, submitted, watched, resumed, cancelled."""
