"""An sqld, libSQL's server, in a temporary folder, and fresh databases (namespaces) in it."""

import contextlib
import itertools
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from devservers.errors import ServerError
from devservers.find import find_sqld
from devservers.process import Server, free_port, temporary_folder

# A proxy that is configured for the machine has no part in what happens on loopback.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class SqldServer(Server):
    """A running sqld with namespaces; `admin` is the address of its admin API."""

    _numbers = itertools.count(1)
    admin: str = ""

    def database_url(self, namespace: str) -> str:
        """`libsql+http://127.0.0.1:PORT?namespace=…` of one of its databases."""
        return f"libsql+http://{self.host}:{self.port}?namespace={namespace}"

    def create_database(self, name: str | None = None) -> str:
        """Make an empty database and return its name."""
        name = name or f"test-{os.getpid()}-{next(self._numbers)}"
        self._ask("POST", f"/v1/namespaces/{name}/create", {})
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database with all that is in it."""
        self._ask("DELETE", f"/v1/namespaces/{name}")

    @contextlib.contextmanager
    def database(self, name: str | None = None) -> Iterator[str]:
        """The URL of a fresh database, dropped after the block."""
        name = self.create_database(name)
        try:
            yield self.database_url(name)
        finally:
            self.drop_database(name)

    def _ask(self, method: str, path: str, body: Any = None) -> None:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.admin + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with _open(request, timeout=30) as answer:
                answer.read()
        except (OSError, urllib.error.HTTPError) as error:
            raise ServerError(f"sqld's admin API: {method} {path} failed: {error}") from None


def start_sqld(
    *, auth_key: str | None = None, data: Path | None = None, port: int | None = None, namespaces: bool = True
) -> SqldServer:
    """Start an sqld; it takes about a tenth of a second.

    Args:
        auth_key: the Ed25519 public key, as URL-safe base64, that tokens must be signed with; none are asked for
            unless given.
        data: the folder of its databases, which is kept; else one of its own, which is removed.
        port: where it listens; any free one unless given.
        namespaces: whether it keeps many databases, or one, under whatever name it is called.

    Raises `ServerError` when there is none or it does not start.
    """
    binary = find_sqld()
    last: ServerError | None = None
    for _ in range(3):  # another process may take the free port first
        folder = temporary_folder("sqld")
        http, admin = port or free_port(), free_port()
        command = [str(binary), "--db-path", str(data or folder / "data"), "--no-welcome"]
        command += ["--enable-namespaces"] if namespaces else []
        command += ["--http-listen-addr", f"127.0.0.1:{http}", "--admin-listen-addr", f"127.0.0.1:{admin}"]
        if auth_key is not None:
            (folder / "key").write_text(auth_key)
            command += ["--auth-jwt-key-file", str(folder / "key")]
        try:
            server = SqldServer("sqld", command, folder=folder, port=http)
            server.admin = f"http://127.0.0.1:{admin}"
            server.wait_until(lambda started=server: _answers(started))  # type: ignore[misc]
            return server
        except ServerError as error:
            last = error
    assert last is not None
    raise last


def _answers(server: SqldServer) -> bool:
    try:
        with _open(f"http://{server.host}:{server.port}/health", timeout=1):
            return True
    except OSError:
        return False
