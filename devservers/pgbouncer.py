"""A pgbouncer in front of a PostgreSQL, pooling by transaction, in a temporary folder."""

import os
import socket

from devservers.find import find_pgbouncer
from devservers.postgres import SUPERUSER, PostgresServer
from devservers.process import NOBODY, Server, free_port, temporary_folder


class PgbouncerServer(Server):
    """A running pgbouncer."""

    def database_url(self, database: str, user: str = SUPERUSER) -> str:
        """The URL of a database of the PostgreSQL behind it."""
        return f"postgresql://{user}@{self.host}:{self.port}/{database}"


def start_pgbouncer(postgres: PostgresServer, *, connections: int = 2) -> PgbouncerServer:
    """Start a pgbouncer that hands each transaction any of `connections` connections to `postgres`.

    As root it runs as nobody, since pgbouncer refuses root. Raises `ServerError` when there is none or it
    does not start.
    """
    binary = find_pgbouncer()
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
