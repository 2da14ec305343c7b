"""Make the sample ledger: some weeks of invented x402 payments, run through a real Solana VM.

    python scripts/make_sample_ledger.py            # write src/holdfast/apps/agents/sample/
    python scripts/make_sample_ledger.py --check    # make it again and compare with what is packaged

Needs `make venv` (for LiteSVM, which is in solders). The same seed gives the same records, byte for byte.
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
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the packaged files instead of writing")
    return run(check=parser.parse_args().check)


def run(*, check: bool, progress: bool = True) -> int:
    """Make the sample and write it, or compare it; 0 if all is well, 1 if the packaged files differ."""
    made = make(progress=progress)
    if not check:
        size = write(made, FOLDER)
        print(f"{len(made)} files, {size / 1e6:.2f} MB, in {FOLDER}")
        return 0
    different = compare(made, FOLDER)
    for name in different:
        print(f"{name} is not what the script makes", file=sys.stderr)
    if not different:
        print("the packaged sample is what the script makes")
    return 1 if different else 0


def write(made: dict[str, bytes], folder: Path) -> int:
    """Write the files, those named .zst packed; return their size in bytes."""
    for name, content in made.items():
        (folder / name).write_bytes(zstandard.compress(content, 22) if name.endswith(".zst") else content)
    return sum((folder / name).stat().st_size for name in made)


def compare(made: dict[str, bytes], folder: Path) -> list[str]:
    """Return the names of the files whose content is missing or another; how they are packed does not count."""
    return [name for name, content in made.items() if _content(folder / name) != content]


def _content(path: Path) -> bytes | None:
    if not path.exists():
        return None
    raw = path.read_bytes()
    return zstandard.ZstdDecompressor().decompressobj().decompress(raw) if path.suffix == ".zst" else raw


if __name__ == "__main__":
    sys.exit(main())
