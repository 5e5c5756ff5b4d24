"""Run a ``taskq`` command that ends with the process that started it, also when that one was killed.

``python -m taskq.demo.tethered worker -A shop:app``

Standard input is the tether: a pipe whose other end only the parent holds, so it ends when the parent does.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading


def _stop_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    runpy.run_module("taskq", run_name="__main__")
