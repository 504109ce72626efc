"""Reaching Redis, neighbours and the world."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.sandbox.policy import Policy
from tests.escape.room import attempt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TCP = """
def attack(address):
    socket.create_connection(tuple(address), 2).close()
"""
_UDP = """
def attack(address):
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", tuple(address))
"""
_LISTEN = """
def attack(_):
    socket.create_server(("127.0.0.1", 0)).close()
"""
_UNIX = """
def attack(path):
    socket.socket(socket.AF_UNIX).connect(path)
"""
_PAIR = """
def attack(path):
    near, _ = socket.socketpair(type=socket.SOCK_DGRAM)
    return near.sendto(b"x", path)
"""


@pytest.fixture
def server() -> Iterator[list[Any]]:
    """Yield the address of a server that anyone may reach."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield list(listening.getsockname())


def test_tcp_udp_and_listening(tmp_path: Path, server: list[Any]) -> None:
    """Nothing leaves a child of `strict`, and nothing enters, unless the policy says so."""
    granted = Policy("strict", network=True)
    for attack in (_TCP, _UDP, _LISTEN):
        assert attempt(tmp_path, "limits", attack, server)[0] == "worked"
        assert attempt(tmp_path, "strict", attack, server) == ["refused", "EACCES"]
        assert attempt(tmp_path, granted, attack, server)[0] == "worked"


@pytest.mark.parametrize("place", ["path", "abstract"])
def test_unix_sockets(tmp_path: Path, place: str) -> None:
    """The embedded server listens on one, whatever the policy says of the network."""
    path = str(tmp_path / "s") if place == "path" else f"\0sandboxq-attack-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        assert attempt(tmp_path, "limits", _UNIX, path)[0] == "worked"
        for policy in (Policy("strict"), Policy("strict", network=True)):
            assert attempt(tmp_path, policy, _UNIX, path) == ["refused", "EACCES"]


def test_datagrams_from_a_pair(tmp_path: Path) -> None:
    """A connected pair of datagram sockets sends to any other: the way to the system's log."""
    path = str(tmp_path / "d")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        assert attempt(tmp_path, "limits", _PAIR, path) == ["worked", 1]
        assert attempt(tmp_path, "strict", _PAIR, path) == ["refused", "EACCES"]
