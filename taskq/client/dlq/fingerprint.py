"""The fingerprint: what failures of the same kind have in common.

The task, the reason, the type of the error and the place in the code where it was raised, without line numbers, so
that it outlives a deploy. An error without traceback is told apart by its text instead, less numbers and quotes.
"""

from __future__ import annotations

import hashlib
import re

_FRAME = re.compile(r'^  File "([^"\n]*)", line \d+, in (.*)$', re.MULTILINE)
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+|'[^']*'|\"[^\"]*\"")
_PATH_PARTS = 2
"""How much of a file's path counts: hosts keep the same code in different folders."""


def fingerprint(task: str, reason: str, error_type: str, error: str, traceback: str) -> str:
    """12 hexadecimal digits, the same for failures of the same kind."""
    start = traceback.rfind('\n  File "')
    frames = _FRAME.findall(traceback, max(start, 0))
    if frames:
        path, function = frames[-1]
        place = "/".join(path.replace("\\", "/").split("/")[-_PATH_PARTS:]) + ":" + function
    else:
        place = _VARYING.sub("#", error.partition("\n")[0])[:200]
    text = "\n".join((task, reason, error_type, place))
    return hashlib.blake2s(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
