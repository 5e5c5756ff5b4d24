"""Compares what mypy says about a file with the ``# E: <code>`` comments in it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from support.process import ROOT, clean_environment

_EXPECTED = re.compile(r"#\s*E:\s*([\w-]+(?:\s*,\s*[\w-]+)*)")
_REPORTED = re.compile(r"(?P<path>.+?):(?P<line>\d+): error: (?P<text>.*?)(?:  \[(?P<code>[\w-]+)\])?")

Errors = dict[Path, list[tuple[int, str]]]


def differences(files: Iterable[Path], cache: Path) -> list[str]:
    """Type-check *files* as a user would, and return one line for each error that is missing or not expected.

    Args:
        files: ``# E: arg-type`` on a line says that mypy reports just this error there; ``# E: a, b`` two.
        cache: directory of mypy's cache; one run at a time.
    """
    files = [file.resolve() for file in files]
    reported, messages = _check(files, cache)
    lines = [line for file in files for line in _compare(file, _expected(file), reported.pop(file, []))]
    lines += [f"{file.name} was not to be checked, but has errors: {errors}" for file, errors in reported.items()]
    return lines + (["mypy said:", *messages] if lines else [])


def _check(files: list[Path], cache: Path) -> tuple[Errors, list[str]]:
    """Return the errors of each file and all of mypy's output."""
    options = [
        "--strict",
        "--no-pretty",
        "--no-error-summary",
        "--hide-error-context",
        "--show-absolute-path",
    ]
    # From the checkout: mypy reads its settings for untyped packages there.
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *options, f"--cache-dir={cache}", *map(str, files)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean_environment() | {"MYPYPATH": str(ROOT)},
    )
    messages = (run.stdout + run.stderr).splitlines()
    errors: Errors = defaultdict(list)
    for message in messages:
        if match := _REPORTED.fullmatch(message):
            errors[Path(match["path"]).resolve()].append((int(match["line"]), match["code"] or match["text"]))
    if bool(errors) != bool(run.returncode):
        raise AssertionError(f"mypy ended with status {run.returncode} and said:\n" + "\n".join(messages))
    return errors, messages


def _expected(file: Path) -> list[tuple[int, str]]:
    found = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        if match := _EXPECTED.search(line):
            found += [(number, code) for code in re.split(r"\s*,\s*", match[1])]
    return found


def _compare(file: Path, expected: list[tuple[int, str]], reported: list[tuple[int, str]]) -> list[str]:
    surplus = list(reported)
    lines = []
    for error in expected:
        if error in surplus:
            surplus.remove(error)
        else:
            lines.append(f"{file.name}:{error[0]}: expected error [{error[1]}], mypy does not report it")
    return lines + [f"{file.name}:{line}: unexpected error [{code}]" for line, code in surplus]
