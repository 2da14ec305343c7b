"""The databases' own clocks, as SQL: processes on several machines must agree on what time it is."""

JULIAN_NOW = "julianday('now')"
"""The Julian day, which is the cheapest clock that SQLite has."""

JULIAN_OF_1970 = 2_440_587.5

UNIX_NOW = {
    "postgresql": "extract(epoch FROM clock_timestamp())::double precision",
    "sqlite": f"(({JULIAN_NOW} - {JULIAN_OF_1970}) * 86400.0)",
}
"""Seconds since 1970, by dialect."""
