"""`python -m devservers`: find PostgreSQL, Redis and Chromium, or install what is missing.

Exit 0 when all are there; 1 with what to install when one is not.
"""

import sys

from devservers.errors import ServerError
from devservers.install import ensure_chromium, ensure_postgres, ensure_redis


def main() -> int:
    """Ensure each server in turn, so that one run names everything that is missing."""
    missing = 0
    for name, ensure in (("PostgreSQL", ensure_postgres), ("Redis", ensure_redis), ("Chromium", ensure_chromium)):
        try:
            print(f"{name:<11} {ensure()}")
        except ServerError as error:
            print(f"{name:<11} missing: {error}", file=sys.stderr)
            missing += 1
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
