"""`make check`: format, lint, types, floors and docs, one after the other; exit 1 if any fails.

All run even when one fails, so that one run names everything. What a check printed is shown when it fails.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

CHECKS = {
    "format": [str(BIN / "ruff"), "format", "--check", "--output-format", "concise", "."],
    "lint": [str(BIN / "ruff"), "check", "--output-format", "concise", "."],
    "types": [str(BIN / "mypy")],
    "floors": [str(BIN / "lint-imports"), "--no-logo"],
    "docs": [sys.executable, "scripts/check_docs.py"],
}
ADVICE = {"format": "`make format` mends it", "lint": "`make format` mends some of it"}


def main() -> int:
    """Run every check; return 1 if one failed."""
    failed = []
    for name, command in CHECKS.items():
        start = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        print(f"{name:<8}{'ok' if done.returncode == 0 else 'FAILED':<8}{time.monotonic() - start:5.1f} s", flush=True)
        if done.returncode != 0:
            failed.append(name)
            print((done.stdout + done.stderr).strip(), ADVICE.get(name, ""), sep="\n", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
