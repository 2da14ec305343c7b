"""What all commands share: help, usage, exit codes, one-line errors; migrations and the journal."""

import json
import signal

import pytest

from devservers.process import free_port
from tests.cli.command import Shell, fetch, finish, reading
from tests.cli.ledger import lines, payment

COMMANDS = [
    "",
    "up",
    "index",
    "index solana",
    "query",
    "query transfers",
    "migrate",
    "migrate new",
    "migrate lint",
