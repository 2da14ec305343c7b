"""What the guides show runs as it stands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A process of its own each: two guides may declare a model of one name.
RUN = r"""
import ast, asyncio, inspect, re, sys
from types import FunctionType

async def main(path):
    text = open(path, encoding="utf-8").read()
    names = {"__name__": "guide"}
    blocks = list(re.finditer(r"```python\n(.*?)```", text, re.DOTALL))
    for block in blocks:
        lines = "\n" * (text[: block.start()].count("\n") + 1)
        code = compile(lines + block[1], path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        made = FunctionType(code, names)()
        if inspect.isawaitable(made):
            await made
    print(len(blocks))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize(
    "name",
    [
        "asking-others.md",
        "audit.md",
        "cache.md",
        "cache-operations.md",
        "events.md",
        "keys.md",
        "limits.md",
        "models.md",
        "privacy.md",
        "repositories.md",
        "rest.md",
        "security.md",
        "tenancy.md",
    ],
)
def test_the_examples_of_a_guide_run_one_after_the_other(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, ROOT / "docs" / "guides" / name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "HOLDFAST_ENCRYPTION_KEYS": "k1:" + "A" * 43 + "="},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) >= 3
