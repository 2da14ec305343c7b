"""Make the sample ledger: some weeks of invented x402 payments, run through a real Solana VM.

    python scripts/make_sample_ledger.py            # write src/holdfast/apps/agents/sample/
    python scripts/make_sample_ledger.py --check    # make it again and compare with what is packaged

Needs the extra `solana` (for LiteSVM). The same seed gives the same records, byte for byte.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import zstandard

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.sample_ledger.ledger import make  # noqa: E402 - the root is not on the path of a script

FOLDER = ROOT / "src/holdfast/apps/agents/sample"


def main() -> int:
    """Write or check the sample; 0 if all is well, 1 if the packaged files differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the packaged files instead of writing")
    check = parser.parse_args().check
    files = make()
    if not check:
        for name, content in files.items():
            (FOLDER / name).write_bytes(zstandard.compress(content, 22) if name.endswith(".zst") else content)
        size = sum((FOLDER / name).stat().st_size for name in files)
        print(f"{len(files)} files, {size / 1e6:.2f} MB, in {FOLDER}")
        return 0
    different = [name for name, content in files.items() if read(FOLDER / name) != content]
    for name in different:
        print(f"{name} is not what the script makes", file=sys.stderr)
    print(
        "the packaged sample is not what the script makes" if different else "the packaged sample is what it should be"
    )
    return 1 if different else 0


def read(path: Path) -> bytes | None:
    """Return a packaged file's content, unpacked, or None where it is missing."""
    if not path.exists():
        return None
    raw = path.read_bytes()
    return zstandard.ZstdDecompressor().decompressobj().decompress(raw) if path.suffix == ".zst" else raw


if __name__ == "__main__":
    sys.exit(main())
