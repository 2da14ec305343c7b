"""Every committed change is delivered, once per durable effect, in per-row order: invariant J.

16 writers and 3 followers in processes of their own work on one database, SQLite for one half of the time and
PostgreSQL for the other; followers are killed with kill -9, and at the end an older copy of the database is put
in place. What was committed is known from what the writers noted themselves, never from the journal.
"""
