"""`python -m devservers`: find the servers and the browser of the tests, or install what is missing.

Exit 0 when all are there; 1 with what to install when one is not.
"""

import sys

from devservers.errors import ServerError
from devservers.install import ensure_chromium, ensure_pgbouncer, ensure_postgres, ensure_redis, ensure_sqld

NEEDED = {
    "PostgreSQL": ensure_postgres,
    "pgbouncer": ensure_pgbouncer,
    "Redis": ensure_redis,
    "sqld": ensure_sqld,
    "Chromium": ensure_chromium,
}


def main() -> int:
    """Ensure each server in turn, so that one run names everything that is missing."""
    missing = 0
    for name, ensure in NEEDED.items():
        try:
            print(f"{name:<11} {ensure()}")
        except ServerError as error:
            print(f"{name:<11} missing: {error}", file=sys.stderr)
            missing += 1
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
