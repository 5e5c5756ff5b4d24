"""The code base keeps its own rules: style, types, layers, a light import, one version number."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.process import ROOT, clean_environment
from support.typecheck import differences

import taskq

TYPING = ROOT / "tests" / "typing"
TOP_LEVEL = ("pyproject.toml", "README.md", "CHANGELOG.md", "Dockerfile", "LICENSE")
FOLDERS = ("taskq", "tests", "examples", "grafana", "docs")
HEAVY = ("click", "starlette", "prometheus_client", "rich", "croniter", "tenacity")


def complaints(*command: str) -> str:
    """What a command in the checkout has to say when it fails; empty when it succeeds."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=clean_environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}" if done.returncode else ""


@pytest.mark.parametrize("arguments", [["check", "."], ["format", "--check", "."]], ids=["check", "format"])
def test_ruff_has_nothing_to_say(arguments: list[str]) -> None:
    assert not complaints(sys.executable, "-m", "ruff", *arguments)


def test_mypy_strict_has_nothing_to_say() -> None:
    assert not complaints(sys.executable, "-m", "mypy")


def test_no_module_imports_from_a_layer_below_it() -> None:
    assert not complaints(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")


def test_an_sdist_has_all_that_the_tests_look_at() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    included = set(project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    wanted = {"benchmarks", "docker", "docker-compose.yml", "CONTRIBUTING.md", "SECURITY.md", *TOP_LEVEL, *FOLDERS}
    assert wanted - {"pyproject.toml"} <= included


def test_user_code_is_typed_as_promised() -> None:
    """``tests/typing/ok_*.py`` has no type errors, ``bad_*.py`` just the ones that its comments name."""
    good = sorted(TYPING.glob("ok_*.py"))
    bad = sorted(TYPING.glob("bad_*.py"))
    assert good, "there must be user code to check"
    assert {*good, *bad} == {*TYPING.glob("*.py")}, "every file here is named ok_*.py or bad_*.py"
    assert all("# E:" not in file.read_text() for file in good), "an ok file expects no error"
    assert all("# E:" in file.read_text() for file in bad), "a bad file expects an error"
    assert not (found := differences([*good, *bad], ROOT / ".mypy_cache" / "typing")), "\n".join(found)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param('x: int = "a"  # E: assignment\n', [], id="expected error"),
        pytest.param('x: int = 1\n\nlen(1)  # E: arg-type\nx.y = ""  # E: attr-defined\n', [], id="two lines"),
        pytest.param('def f(a: int, b: int) -> None: ...\nf("a", "b")  # E: arg-type, arg-type\n', [], id="two on one"),
        pytest.param("x: int = 1\n", [], id="no error"),
        pytest.param('x: int = "a"\n', ["case.py:1: unexpected error [assignment]"], id="unexpected"),
        pytest.param(
            "x: int = 1  # E: assignment\n",
            ["case.py:1: expected error [assignment], mypy does not report it"],
            id="missing",
        ),
        pytest.param(
            'x: int = "a"  # E: arg-type\n',
            [
                "case.py:1: expected error [arg-type], mypy does not report it",
                "case.py:1: unexpected error [assignment]",
            ],
            id="another code",
        ),
        pytest.param(
            'def f(a: int, b: int) -> None: ...\nf("a", "b")  # E: arg-type\n',
            ["case.py:2: unexpected error [arg-type]"],
            id="one too many",
        ),
    ],
)
def test_expected_type_errors_are_compared_exactly(
    source: str, expected: list[str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path / "case.py"
    file.write_text(source)
    cache = tmp_path_factory.getbasetemp() / "mypy-cache"
    found = differences([file], cache)
    assert found[: len(expected)] == expected
    assert found[len(expected) :][:1] == (["mypy said:"] if expected else [])


def test_import_taskq_is_light() -> None:
    """A web process that only sends tasks pays for nothing else."""
    code = f"import sys, taskq; sys.exit(' '.join(sorted({set(HEAVY)!r} & set(sys.modules))) or 0)"
    assert not complaints(sys.executable, "-c", code)


@pytest.mark.parametrize("name", [*TOP_LEVEL, *FOLDERS])
def test_project_has(name: str) -> None:
    assert (ROOT / name).exists()


def test_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## \[?v?(\d[^\]\s]*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest, "CHANGELOG.md has no heading such as '## 1.2.3 - 2025-01-31'"
    assert {"CHANGELOG.md": newest[1], "taskq.__version__": taskq.__version__} == {
        "CHANGELOG.md": project,
        "taskq.__version__": project,
    }
