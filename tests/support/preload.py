"""A program that runs with a few functions of the C library replaced."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from support import programs


def preloaded(program: Path, source: str, environment: Mapping[str, str], folder: Path) -> Path:
    """Compile *source*, and return a script that runs *program* with it in front of all libraries.

    Args:
        program: what to run.
        source: C, with functions of the same names as those to replace.
        environment: for the program; the functions can read it.
        folder: for the files that are made.
    """
    compiler = programs.require("cc")
    text, library, script = folder / "preload.c", folder / "preload.so", folder / program.name
    text.write_text(source)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, text], check=True)
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    script.write_text(f'#!/bin/sh\n{settings} LD_PRELOAD={library} exec {program} "$@"\n')
    script.chmod(0o755)
    return script
