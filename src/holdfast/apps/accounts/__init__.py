"""Users and their sessions: so far the keys of what is kept of them; no tables yet."""
