"""No network: for tests of what could reach it."""

from __future__ import annotations

import socket
import urllib.request
from typing import Any

import pytest


def refuse_connections(patch: pytest.MonkeyPatch) -> list[str]:
    """Let every attempt to reach the network fail; the attempts are noted in the list that comes back."""
    attempts: list[str] = []

    def refuse(*args: Any, **options: Any) -> Any:
        attempts.append(str(args[:1]))
        raise OSError("no network in tests")

    patch.setattr(urllib.request, "urlopen", refuse)
    patch.setattr(socket, "create_connection", refuse)
    patch.setattr(socket, "getaddrinfo", refuse)
    patch.setattr(socket.socket, "connect", refuse)
    return attempts
