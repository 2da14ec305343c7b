"""What goes wrong with development servers."""


class ServerError(RuntimeError):
    """A server is missing or did not start; the message says what to do."""
