"""Where the run's processes log."""

import sys

import structlog


def log_to_stderr() -> None:
    """Log to standard error, with plain tracebacks: rendering every local variable stops a process for seconds."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
