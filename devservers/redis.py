"""A Redis (or Valkey) server in a temporary folder."""

import socket

from devservers.errors import ServerError
from devservers.find import find_redis
from devservers.process import Server, free_port, temporary_folder


class RedisServer(Server):
    """A running Redis without persistence."""

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:PORT/0`"""
        return f"redis://{self.host}:{self.port}/0"

    def clear(self) -> None:
        """Forget every key of every database, and the cached scripts."""
        self.command("FLUSHALL")
        self.command("SCRIPT FLUSH")

    def text(self, line: str) -> str:
        """Send one inline command whose answer is a text, such as INFO; return it."""
        with socket.create_connection((self.host, self.port), timeout=5) as connection:
            connection.sendall(line.encode() + b"\r\n")
            with connection.makefile("rb") as answer:
                first = answer.readline()
                if not first.startswith(b"$"):
                    raise ServerError(f"{self.name} answered {line!r} with {first.decode().strip()}")
                return answer.read(int(first[1:])).decode()

    def command(self, line: str) -> str:
        """Send one inline command; return the first line of the answer."""
        with socket.create_connection((self.host, self.port), timeout=5) as connection:
            connection.sendall(line.encode() + b"\r\n")
            with connection.makefile("rb") as answer:
                return answer.readline().decode().strip()


def start_redis(*options: str, port: int | None = None) -> RedisServer:
    """Start a Redis; `options` are more arguments for it, such as `--maxmemory`, `10mb`.

    Args:
        port: of 127.0.0.1; a free one unless given.

    Raises `ServerError` when there is none or it does not start.
    """
    binary = find_redis()
    last: ServerError | None = None
    for _ in range(3):  # another process may take the free port first
        folder = temporary_folder("redis")
        chosen = port or free_port()
        command = [str(binary), "--port", str(chosen), "--bind", "127.0.0.1", "--dir", str(folder)]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no", *options]
        try:
            server = RedisServer("Redis", command, folder=folder, port=chosen)
            server.wait_until(lambda started=server: _answers(started))  # type: ignore[misc]
            return server
        except ServerError as error:
            last = error
    assert last is not None
    raise last


def _answers(server: RedisServer) -> bool:
    try:
        return server.command("PING") == "+PONG"
    except OSError:
        return False
