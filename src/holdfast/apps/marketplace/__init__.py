"""Services, and what is paid for them: so far the keys of what is kept; no tables yet."""
