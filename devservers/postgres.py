"""A PostgreSQL server in a temporary folder, and fresh databases in it."""

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from devservers.errors import ServerError
from devservers.find import find_postgres
from devservers.process import NOBODY, Server, free_port, temporary_folder

SUPERUSER = "holdfast"
Answer = TypeVar("Answer")

# Durable enough for a test, and hostile where that finds bugs: a time zone that is not UTC and has half hours.
SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "max_connections": "200",
    "max_prepared_transactions": "64",
    "max_wal_size": "4GB",
    "shared_buffers": "256MB",
    "TimeZone": "Asia/Kolkata",
    "track_commit_timestamp": "on",
    "wal_level": "logical",
    "log_min_messages": "fatal",
}


# What outlives the schema: settings, other schemas, extensions, prepared transactions, slots, publications, rights
# of the database's own.
LEFT = """
    SELECT current_setting('server_version_num')::int < 150000  -- whose public schema is made otherwise
        OR EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
            WHERE d.datname = current_database())
        OR EXISTS (SELECT FROM pg_namespace WHERE nspname NOT IN ('public', 'information_schema') AND nspname !~ '^pg_')
        OR EXISTS (SELECT FROM pg_extension WHERE extname <> 'plpgsql')
        OR EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database())
        OR EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database())
        OR EXISTS (SELECT FROM pg_publication) OR EXISTS (SELECT FROM pg_subscription)
        OR EXISTS (SELECT FROM pg_event_trigger) OR EXISTS (SELECT FROM pg_largeobject_metadata)
        OR EXISTS (SELECT FROM pg_database WHERE datname = current_database()
            AND (datacl IS NOT NULL OR NOT datallowconn OR datconnlimit <> -1))
        OR EXISTS (SELECT FROM pg_default_acl)
"""
EMPTY = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
    DROP SCHEMA public CASCADE;
    CREATE SCHEMA public AUTHORIZATION pg_database_owner;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
"""


class PostgresServer(Server):
    """A running PostgreSQL; `url` is the superuser's connection to its `postgres` database."""

    _numbers = itertools.count(1)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._empty: list[str] = []  # databases that were used and are as new

    @property
    def url(self) -> str:
        """`postgresql://holdfast@127.0.0.1:PORT/postgres`"""
        return self.database_url("postgres")

    def database_url(self, database: str, user: str = SUPERUSER) -> str:
        """The URL of a database of this server; any role may connect, without a password."""
        return f"postgresql://{user}@{self.host}:{self.port}/{database}"

    def execute(self, *statements: str, database: str = "postgres") -> None:
        """Run statements one by one as superuser, outside a transaction."""

        async def run() -> None:
            connection = await asyncpg.connect(self.database_url(database))
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        in_own_loop(run())

    def create_database(self, name: str | None = None) -> str:
        """Make an empty database and return its name."""
        name = name or f"test_{os.getpid()}_{next(self._numbers)}"
        # Copying the files takes half the time of the default, which writes them through the log.
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 STRATEGY file_copy')
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database with whatever still hangs on it: connections, prepared transactions, slots."""

        async def run() -> None:
            connection = await asyncpg.connect(self.url)
            try:
                prepared = await connection.fetch("SELECT gid FROM pg_prepared_xacts WHERE database = $1", name)
                if prepared:
                    inside = await asyncpg.connect(self.database_url(name))
                    try:
                        for row in prepared:
                            gid = row["gid"].replace("'", "''")
                            await inside.execute(f"ROLLBACK PREPARED '{gid}'")
                    finally:
                        await inside.close()
                await connection.execute(
                    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                    "WHERE database = $1 AND NOT active",
                    name,
                )
                await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            finally:
                await connection.close()

        in_own_loop(run())

    @contextlib.contextmanager
    def database(self, name: str | None = None) -> Iterator[str]:
        """The URL of an empty database, dropped after the block, or emptied for the next that asks for any."""
        if name is not None:
            used = self.create_database(name)
        else:
            used = self._empty.pop() if self._empty else self.create_database()
        try:
            yield self.database_url(used)
        finally:
            # Emptying one takes a fifth of the time that making one does.
            if name is None and in_own_loop(_emptied(self.database_url(used))):
                self._empty.append(used)
            else:
                self.drop_database(used)


async def _emptied(url: str) -> bool:
    """Make a database as new as it was; False where something is in it that is not in its schema."""
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval(LEFT):
            return False
        await connection.execute(EMPTY)
        return True
    finally:
        await connection.close()


def start_postgres(settings: Mapping[str, str] | None = None) -> PostgresServer:
    """Start a PostgreSQL with `SETTINGS`, overridden by `settings`; it takes about a second.

    As root it runs as nobody, since PostgreSQL refuses root. Raises `ServerError` when there is none
    or it does not start.
    """
    uid = NOBODY if hasattr(os, "geteuid") and os.geteuid() == 0 else None
    binaries = find_postgres()
    if uid is not None:
        binaries = _reachable(binaries, uid)
    last: ServerError | None = None
    for _ in range(3):  # another process may take the free port first
        try:
            return _start(binaries, uid, {**SETTINGS, **(settings or {})})
        except ServerError as error:
            last = error
    assert last is not None
    raise last


def start_replica(primary: PostgresServer, settings: Mapping[str, str] | None = None) -> PostgresServer:
    """Start a streaming replica of `primary`; it takes about a second. `settings` as those of the primary.

    It is copied by PostgreSQL's own functions, since not every installation has pg_basebackup.
    """
    uid = NOBODY if hasattr(os, "geteuid") and os.geteuid() == 0 else None
    binaries = find_postgres()
    if uid is not None:
        binaries = _reachable(binaries, uid)
    folder = temporary_folder("replica", uid)
    data = folder / "data"
    in_own_loop(_copy(primary, data))
    (data / "standby.signal").touch()
    for path in (data, *data.rglob("*")) if uid is not None else ():
        os.chown(path, uid or 0, uid or 0, follow_symlinks=False)
    port = free_port()
    conninfo = f"host={primary.host} port={primary.port} user={SUPERUSER} application_name={folder.name}"
    wanted = {**SETTINGS, **(settings or {}), "primary_conninfo": conninfo, "hot_standby": "on"}
    command = [str(binaries / "postgres"), "-D", str(data), "-h", primary.host, "-p", str(port)]
    command += ["-c", "unix_socket_directories="]
    for name, value in wanted.items():
        command += ["-c", f"{name}={value}"]
    server = PostgresServer("PostgreSQL replica", command, folder=folder, port=port, stop="INT", uid=uid)
    server.wait_until(lambda: _says_ready(data / "postmaster.pid"))
    return server


async def _copy(primary: PostgresServer, data: Path) -> None:
    """A base backup: https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP"""
    connection = await asyncpg.connect(primary.url)
    try:
        await connection.execute("SELECT pg_backup_start('replica', fast => true)")
        await asyncio.to_thread(_copy_tree, primary.folder / "data", data)
        label = await connection.fetchval("SELECT labelfile FROM pg_backup_stop(wait_for_archive => false)")
        # What was written until now, for the primary may have no use for it any more when the replica asks.
        await asyncio.to_thread(_copy_tree, primary.folder / "data" / "pg_wal", data / "pg_wal")
    finally:
        await connection.close()
    (data / "backup_label").write_text(label)


def _copy_tree(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700, exist_ok=True)
    for path in source.iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile, which the log tells the replica
            if path.is_dir():
                _copy_tree(path, target / path.name)
            elif path.name not in ("postmaster.pid", "postmaster.opts") and source.name != "pg_replslot":
                shutil.copy2(path, target / path.name)


def _start(binaries: Path, uid: int | None, settings: Mapping[str, str]) -> PostgresServer:
    folder = temporary_folder("postgres", uid)
    data = folder / "data"
    command = [str(binaries / "initdb"), "--pgdata", str(data), "--username", SUPERUSER, "--auth", "trust"]
    command += ["--encoding", "UTF8", "--no-locale", "--no-sync"]
    made = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        user=uid,
        group=uid,
        extra_groups=[] if uid is not None else None,
        env={**os.environ, "LC_ALL": "C"},
    )
    if made.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        raise ServerError(f"initdb failed ({made.returncode}): {made.stderr.strip()[-2000:]}")
    port = free_port()
    command = [str(binaries / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port)]
    command += ["-c", "unix_socket_directories="]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
    server = PostgresServer("PostgreSQL", command, folder=folder, port=port, stop="INT", uid=uid)
    server.wait_until(lambda: _says_ready(data / "postmaster.pid"))
    return server


def _says_ready(pid_file: Path) -> bool:
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


def _reachable(binaries: Path, uid: int) -> Path:
    """`binaries`, or a copy of its installation in the temporary folder if `uid` may not enter where it lies."""
    probe = subprocess.run(
        ["/bin/sh", "-c", 'test -x "$0"', str(binaries / "postgres")],
        user=uid,
        group=uid,
        extra_groups=[],
        cwd="/",
        check=False,
    )
    if probe.returncode == 0:
        return binaries
    # The layout is kept, for the programs find their libraries beside themselves and in `<package>.libs`.
    install = binaries.parent
    package = install.parent
    stamp = int((binaries / "postgres").stat().st_mtime)
    copy = Path(tempfile.gettempdir()) / f"holdfast-{install.name}-{stamp}"
    if not copy.exists():
        partial = Path(tempfile.mkdtemp(prefix="holdfast-copy-"))
        partial.chmod(0o755)
        shutil.copytree(install, partial / package.name / install.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        with contextlib.suppress(OSError):  # another process was first: its copy is as good
            partial.rename(copy)
        shutil.rmtree(partial, ignore_errors=True)
    if copy.stat().st_uid != os.geteuid():
        raise ServerError(f"{copy} belongs to somebody else: its programs are not run; remove it")
    return copy / package.name / install.name / "bin"


def in_own_loop(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Run a coroutine to its end in a thread of its own, so that it works with and without a running loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
