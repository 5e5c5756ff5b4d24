"""The Redis protocol, by hiredis's C code: commands to bytes, bytes to replies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import hiredis

pack = cast("Callable[[tuple[Any, ...]], bytes]", hiredis.pack_command)
"""One command as bytes. (hiredis's own annotation allows only commands of one word.)"""
