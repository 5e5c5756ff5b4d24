"""Opening sockets to Redis. A name may have several addresses, and the first may lead nowhere.

As browsers do ("happy eyeballs", RFC 8305): the next address is tried as soon as one fails, and beside it when it has
not answered for :data:`PATIENCE`. The first that answers is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import socket
import time
from collections import deque
from typing import Any

from taskq.broker.link.address import Address

PATIENCE = 0.25
"""Seconds that an address has for itself before the next one is tried beside it."""

_Target = tuple[int, Any]
"""The family of a socket, and what it connects to."""


def keep_alive(sock: socket.socket) -> None:
    """Send at once, and notice within about a minute when the peer's machine is gone."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPALIVE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def dial(address: Address, timeout: float) -> socket.socket:
    """A connected socket, within *timeout* seconds of which finding the name's addresses may take its own.

    Raises:
        OSError: no address could be reached; TimeoutError: none has answered in time.
    """
    if address.path:
        return _dial_one((socket.AF_UNIX, address.path), timeout)
    limit = time.monotonic() + timeout
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    targets = _targets(found)
    sock = _dial_one(targets[0], timeout) if len(targets) == 1 else _race(deque(targets), limit)
    keep_alive(sock)
    return sock


async def adial(address: Address) -> socket.socket:
    """As :func:`dial`, on the running event loop, until it is cancelled; the socket does not block."""
    loop = asyncio.get_running_loop()
    if address.path:
        return await _adial_one(loop, (socket.AF_UNIX, address.path))
    targets = _targets(await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))
    sock = await (_adial_one(loop, targets[0]) if len(targets) == 1 else _arace(loop, deque(targets)))
    keep_alive(sock)
    return sock


def _targets(found: list[Any]) -> list[_Target]:
    targets = [(family, where) for family, _, _, _, where in found]
    if not targets:
        raise OSError("the host name has no address")
    return targets


def _dial_one(target: _Target, timeout: float) -> socket.socket:
    sock = socket.socket(target[0], socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(target[1])
    except BaseException:
        sock.close()
        raise
    return sock


def _race(targets: deque[_Target], limit: float) -> socket.socket:
    error: OSError = TimeoutError()
    with contextlib.ExitStack() as losers, selectors.DefaultSelector() as selector:
        while targets or selector.get_map():
            if targets:
                try:
                    sock = _begin(targets.popleft())
                except OSError as refused:
                    error = refused
                    continue
                losers.callback(sock.close)
                selector.register(sock, selectors.EVENT_WRITE)
            left = limit - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _ in selector.select(min(left, PATIENCE) if targets else left):
                selector.unregister(key.fileobj)
                sock = key.fileobj  # type: ignore[assignment]
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    winner = sock.dup()
                    winner.settimeout(max(limit - time.monotonic(), 0.001))
                    return winner
                error = OSError(code, os.strerror(code))
    raise error


def _begin(target: _Target) -> socket.socket:
    """A socket that is on its way to *target*."""
    sock = socket.socket(target[0], socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(target[1])
    except BaseException:
        sock.close()
        raise
    return sock


async def _adial_one(loop: asyncio.AbstractEventLoop, target: _Target) -> socket.socket:
    sock = socket.socket(target[0], socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, target[1])
    except BaseException:
        sock.close()
        raise
    return sock


async def _arace(loop: asyncio.AbstractEventLoop, targets: deque[_Target]) -> socket.socket:
    error: BaseException = TimeoutError()
    attempts: set[asyncio.Task[socket.socket]] = set()
    try:
        while targets or attempts:
            if targets:
                attempts.add(loop.create_task(_adial_one(loop, targets.popleft())))
            wait = PATIENCE if targets else None
            done, _ = await asyncio.wait(attempts, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                if (failed := attempt.exception()) is None:
                    attempts.remove(attempt)
                    return attempt.result()
                attempts.remove(attempt)
                error = failed
    finally:
        await _end(attempts)
    raise error


async def _end(attempts: set[asyncio.Task[socket.socket]]) -> None:
    for attempt in attempts:
        attempt.cancel()
    for ended in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(ended, socket.socket):  # it was there as well
            ended.close()
