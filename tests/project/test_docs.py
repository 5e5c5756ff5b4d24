"""The documents say what the code does."""

from __future__ import annotations

import dataclasses
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.process import ROOT, Proc
from support.wait import wait_for_line

from taskq.broker import keys
from taskq.broker.calls import LUA
from taskq.client import hooks
from taskq.values.config import Config
from taskq.values.durations import seconds
from taskq.values.message import Meta

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("grafana/*.md")]


def rows(document: str, heading: str) -> Iterator[list[str]]:
    """The rows of the table whose first row is *heading*."""
    lines = iter((ROOT / document).read_text().splitlines())
    assert heading in lines, f"{document} has no table {heading}"
    next(lines)
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def test_nobody_is_told_to_install_another_project() -> None:
    """On the public index, ``taskq`` belongs to somebody else: its command would replace ours by it."""
    wrong = re.compile(r"""\btaskq\[[a-z]|pip3? install (?:-\S+ )*["']?taskq(?!-streams)\b""")
    assert wrong.search("pip install -U 'taskq[dashboard]'")
    assert wrong.search("pip install taskq")
    assert not wrong.search("pip install 'taskq-streams[dashboard]'")
    folders = ("taskq", "docs", "examples", "grafana", "docker", "benchmarks")
    texts = [*DOCUMENTS, ROOT / "pyproject.toml", ROOT / "Dockerfile"]
    texts += [file for folder in folders for file in (ROOT / folder).rglob("*.*") if file.suffix != ".pyc"]
    found = [str(file.relative_to(ROOT)) for file in texts if wrong.search(file.read_text("utf-8", errors="ignore"))]
    assert not found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text())
    dead = [target for target in targets if not (document.parent / target).exists()]
    assert not dead, f"{document} links to {dead}"


def test_the_data_model_is_that_of_the_keys_module() -> None:
    rule = r"^(?:=+ +)+=+$"
    table = re.split(rule, keys.__doc__ or "", flags=re.MULTILINE)[2]
    documented = [re.split(r"\s{2,}", line.strip()) for line in table.replace("``", "`").strip().splitlines()]
    assert list(rows("docs/data-model.md", "| key | type | content | life |")) == documented


def test_every_script_is_in_the_data_model() -> None:
    named = [row[0].strip("`") for row in rows("docs/data-model.md", "| script | run by | what it does |")]
    assert sorted(named) == sorted(file.stem for file in LUA.glob("*.lua"))


def test_the_table_of_hooks_has_each_of_them() -> None:
    assert re.findall(r"^``(\w+)``", hooks.__doc__ or "", re.MULTILINE) == list(hooks.NAMES)


def test_every_setting_is_in_the_operations_manual() -> None:
    documented = {
        row[0].strip("`"): row[1].strip("`") for row in rows("docs/operations.md", "| setting | default | meaning |")
    }
    assert list(documented) == [field.name for field in dataclasses.fields(Config)]
    for name, value in dataclasses.asdict(Config()).items():
        said = documented[name]
        if isinstance(value, float):
            assert seconds(said, name) == value, name
        else:
            assert said == {"None": "none", "{}": "empty"}.get(str(value), str(value)), name


def test_every_key_of_the_meta_is_in_the_wire_format() -> None:
    documented = {
        (row[0].strip("`"), row[1]) for row in rows("docs/wire-format.md", "| key | name | default | meaning |")
    }
    assert documented == set(zip(Meta.__struct_encode_fields__, Meta.__struct_fields__, strict=True))


def test_every_room_is_in_the_readme() -> None:
    table = "\n".join(row[0] for row in rows("README.md", "| room | what it is |"))
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", table))
    package = ROOT / "taskq"
    files = {file.name for file in package.glob("*.py") if not file.name.startswith("__")}
    rooms = {f"{file.parent.name}/" for file in package.glob("*/__init__.py")}
    divided = ("broker", "client", "worker", "observe")
    inner = {f"{room}/{file.parent.name}/" for room in divided for file in package.glob(f"{room}/*/__init__.py")}
    assert named == files | rooms | inner | {"broker/lua/"}


def test_tests_that_the_guarantees_name_exist() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", (ROOT / "docs/guarantees.md").read_text())
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]


def test_decisions_have_one_number_each_and_stand_in_their_index() -> None:
    folder = ROOT / "docs/decisions"
    pages = sorted(folder.glob("0*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    titles = [page.read_text().splitlines()[0].removeprefix("# ") for page in pages]
    expected = [
        f"{number}. [{title.removeprefix(f'{number}. ')}]({page.name})"
        for number, (title, page) in enumerate(zip(titles, pages, strict=True), 1)
    ]
    assert all(title.startswith(f"{number}. ") for number, title in enumerate(titles, 1)), titles
    assert re.findall(r"^\d+\. .*$", (folder / "README.md").read_text(), re.MULTILINE) == expected


def test_the_quickstart_works(spawn: Callable[..., Proc], tmp_path: Path, redis_url: str, namespace: str) -> None:
    python, shell = re.findall(r"```(?:python|sh)\n(.*?)```", _section("## Quickstart"), re.DOTALL)[:2]
    (tmp_path / "shop.py").write_text(python)
    env = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    calls = re.findall(r"^python -c '(.*)'$", shell, re.MULTILINE)
    worker = spawn(*_command(shell), env=env)
    answers = []
    for call in calls:
        process = spawn("-c", call, env=env)
        assert process.wait() == 0, process.output()
        answers.append(process.output().strip())
    assert answers == ["receipt for order 42", "3"]
    wait_for_line(worker, "queues: default, emails")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def _section(heading: str) -> str:
    return (ROOT / "README.md").read_text().split(heading)[1].split("\n## ")[0]


def _command(shell: str) -> list[str]:
    """The README's worker command, for this interpreter."""
    match = re.search(r"^taskq (.*) &$", shell, re.MULTILINE)
    assert match
    return ["-m", "taskq", *match[1].split()]
