"""The loop: keys in, screen out."""

from __future__ import annotations

import contextlib
import sys

from rich.console import Console
from rich.live import Live

from taskq.cli.top.keyboard import keys, single_keys
from taskq.cli.top.sampler import Sampler
from taskq.cli.top.screen import draw
from taskq.cli.top.state import Do, State
from taskq.client.app import TaskQ

KEY_WAIT = 0.1
"""Seconds to wait for a key before looking whether there is a new snapshot."""


def run(app: TaskQ, every: float) -> None:
    """Show the screen until ``q`` or Ctrl-C.

    Args:
        app: which Redis and namespace.
        every: seconds between two looks.
    """
    console, state, sampler = Console(), State(), Sampler(app, every)
    where, fd = f"{app.address} {app.keys.namespace}", sys.stdin.fileno()
    sampler.start()
    size = console.size
    try:
        with (
            contextlib.suppress(KeyboardInterrupt),
            single_keys(fd),
            Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
        ):
            live.update(draw(state, where, *size), refresh=True)
            while True:
                pressed = keys(fd, KEY_WAIT)
                for action in filter(None, map(state.press, pressed)):
                    if action.do is Do.QUIT:
                        return
                    sampler.ask(action)
                if sampler.changed.is_set():
                    sampler.changed.clear()
                    state.show(sampler.latest)
                    state.message, sampler.message = sampler.message or state.message, ""
                elif not pressed and console.size == size:
                    continue
                size = console.size
                live.update(draw(state, where, *size), refresh=True)
    finally:
        sampler.stop()
