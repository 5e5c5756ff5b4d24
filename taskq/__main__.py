"""The ``taskq`` command, and ``python -m taskq``."""

import os
import signal


def main() -> None:
    """Run the command line."""
    if os.getpid() == 1:
        from taskq.cli.init import stand_apart

        stand_apart()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Ctrl-C while modules are imported ends the process as it ends others, without a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from taskq.cli import main as commands

    commands(prog_name="taskq")


if __name__ == "__main__":
    main()
