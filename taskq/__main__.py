"""``python -m taskq`` is the ``taskq`` command."""

from taskq.cli import main

if __name__ == "__main__":
    main(prog_name="taskq")
