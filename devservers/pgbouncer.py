"""A pgbouncer in front of a PostgreSQL, pooling by transaction, in a temporary folder.

It is optional: `find_pgbouncer` says None where it is not installed (Debian: the package `pgbouncer`).
"""

import os
import shutil
import socket
from pathlib import Path

from devservers.errors import ServerError
from devservers.postgres import SUPERUSER, PostgresServer
from devservers.process import NOBODY, Server, free_port, temporary_folder


class PgbouncerServer(Server):
    """A running pgbouncer."""

    def database_url(self, database: str, user: str = SUPERUSER) -> str:
        """The URL of a database of the PostgreSQL behind it."""
        return f"postgresql://{user}@{self.host}:{self.port}/{database}"


def find_pgbouncer() -> Path | None:
    """The program, or None. `HOLDFAST_TEST_PGBOUNCER` names one to prefer."""
    found = (
        os.environ.get("HOLDFAST_TEST_PGBOUNCER") or shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    )
    return Path(found) if found else None


def start_pgbouncer(postgres: PostgresServer, *, connections: int = 2) -> PgbouncerServer:
    """Start a pgbouncer that hands each transaction any of `connections` connections to `postgres`.

    As root it runs as nobody, since pgbouncer refuses root. Raises `ServerError` when there is none or it
    does not start.
    """
    binary = find_pgbouncer()
    if binary is None:
        raise ServerError("no pgbouncer was found: install it, or set HOLDFAST_TEST_PGBOUNCER to its path")
    uid = NOBODY if hasattr(os, "geteuid") and os.geteuid() == 0 else None
    folder = temporary_folder("pgbouncer", uid)
    port = free_port()
    (folder / "users.txt").write_text(f'"{SUPERUSER}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"""\
[databases]
* = host={postgres.host} port={postgres.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder / "users.txt"}
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 200
"""
    )
    for file in folder.iterdir():
        file.chmod(0o644)
    server = PgbouncerServer(
        "pgbouncer", [str(binary), str(folder / "pgbouncer.ini")], folder=folder, port=port, stop="INT", uid=uid
    )
    server.wait_until(lambda: _listens(port))
    return server


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
