"""A task has the name that every process gives it, and no second function takes the place of the first one."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskq import Batch, TaskQ
from taskq.errors import ConfigError

DECORATOR = """
from taskq.client.app import default_app
app = default_app()

def logged(function):
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner
"""


@pytest.fixture
def app() -> TaskQ:
    return TaskQ("test")


def test_two_functions_below_a_decorator_that_hides_their_names_are_refused(app: TaskQ) -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any) -> Any:
            return function(*args)

        return inner

    @app.task
    @logged
    def charge(order: int) -> int:
        return order

    with pytest.raises(ConfigError, match=r"test_definitions.py:\d+.*test_definitions.py:\d+.*functools.wraps"):

        @app.task
        @logged
        def refund(order: int) -> int:
            return order

    assert app.tasks[charge.name] is charge


@pytest.mark.parametrize(
    "pair",
    [("csv", "xml"), ([1], [2]), (object(), object()), (len, max), (lambda: 1, lambda: 2)],
    ids=["text", "list", "object", "builtin", "function"],
)
def test_two_tasks_of_a_factory_are_refused(app: TaskQ, pair: tuple[Any, Any]) -> None:
    def exporter(how: Any) -> Any:
        @app.task
        def export(n: int) -> tuple[Any, int]:
            return how, n

        return export

    exporter(pair[0])
    exporter(pair[0])  # the same thing again is not another one
    with pytest.raises(ConfigError, match=r"name='\.\.\.'"):
        exporter(pair[1])


def test_two_tasks_that_differ_in_a_default_are_refused(app: TaskQ) -> None:
    def exporter(how: str) -> Any:
        @app.task
        def export(n: int, how: str = how) -> tuple[str, int]:
            return how, n

        return export

    exporter("csv")
    with pytest.raises(ConfigError, match="is taken"):
        exporter("xml")


def test_two_partials_methods_and_lambdas_of_one_name_are_refused(app: TaskQ) -> None:
    class Shop:
        def sell(self) -> None: ...

    for name, one, other in (
        ("partial", functools.partial(pow, 1), functools.partial(pow, 2)),
        ("method", Shop().sell, Shop().sell),
        ("lambda", lambda: 1, lambda: 2),
    ):
        app.task(name=name)(one)
        app.task(name=name)(one)
        with pytest.raises(ConfigError, match="is taken"):
            app.task(name=name)(other)


def test_tasks_registered_twice_by_one_function_that_refer_to_each_other_are_the_same(app: TaskQ) -> None:
    def register() -> None:
        @app.task
        def first() -> None:
            first.delay()

        @app.task
        def second() -> None:
            first.delay()

    register()
    register()
    assert len([name for name in app.tasks if "register" in name]) == 2


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module ``shop_module`` to be written by the test."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr("taskq.client.app.default._default", None)
    yield tmp_path / "shop_module.py"
    sys.modules.pop("shop_module", None)


def test_a_reloaded_module_replaces_its_tasks(module: Path) -> None:
    module.write_text(DECORATOR + "@app.task\n@logged\ndef charge():\n    return 1\n")
    loaded = importlib.import_module("shop_module")
    module.write_text(DECORATOR + "# moved down\n\n\n@app.task\n@logged\ndef bill():\n    return 22\n")
    importlib.invalidate_caches()
    importlib.reload(loaded)
    assert loaded.app.tasks[loaded.bill.name].function() == 22
    module.write_text(module.read_text() + "\n@app.task\n@logged\ndef refund():\n    return 3\n")
    with pytest.raises(ConfigError, match=r"shop_module.py:\d+, and again at .*shop_module.py:\d+"):
        importlib.reload(loaded)


def cell(source: str, names: dict[str, Any], number: int) -> None:
    """Run a cell of a notebook."""
    exec(compile(source, f"<ipython-input-{number}-abc>", "exec"), names)


def test_a_cell_of_a_notebook_can_be_run_again(app: TaskQ) -> None:
    names: dict[str, Any] = {"__name__": "__main__", "app": app}
    charge = "@app.task\n@logged\ndef charge():\n    return {}\n"
    cell(DECORATOR.replace("app = default_app()", ""), names, 1)
    cell(charge.format(1), names, 2)
    cell(charge.format(1), names, 3)
    cell("# edited\n" + charge.format(2), names, 4)
    assert app.tasks[names["charge"].name].function() == 2
    plain = "@app.task\ndef plain(x={0}):\n    return {0}\n"
    cell(plain.format(1), names, 5)
    cell("\n" + plain.format(2), names, 6)
    assert app.tasks["__main__.plain"].function() == 2
    with pytest.raises(ConfigError, match=r"functools\.wraps"):
        cell("@app.task\n@logged\ndef refund():\n    return 1\n", names, 7)


def test_a_task_that_only_this_session_knows_says_so_at_its_first_send(
    app: TaskQ, caplog: pytest.LogCaptureFixture
) -> None:
    names: dict[str, Any] = {"__name__": "__main__", "app": app}
    cell("@app.task\ndef plain(): ...\n@app.task(name='shop.named')\ndef named(): ...\n", names, 1)
    assert not caplog.messages
    for _ in range(2):
        names["plain"].prepared()
        names["named"].prepared()
    (warning,) = caplog.messages
    assert "no worker can import task '__main__.plain'" in warning
    assert "name='...'" in warning


PRINT = "print([n for n in app.tasks if not n.startswith('taskq.')])\n"
SHOP = "from taskq import TaskQ\napp = TaskQ('shop')\n@app.task\ndef sell():\n    pass\n" + PRINT


@pytest.mark.parametrize("package", [True, False], ids=["package", "plain folder"])
@pytest.mark.parametrize("way", [["-m", "store.shop"], ["store/shop.py"], ["-c", "import store.shop"]], ids=str)
def test_a_module_of_a_folder_has_one_name(tmp_path: Path, way: list[str], package: bool) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "shop.py").write_text(SHOP)
    if package:
        (tmp_path / "store" / "__init__.py").touch()
    assert names_of(tmp_path, *way) == "['store.shop.sell']"


def test_a_script_has_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "elsewhere").mkdir()
    assert names_of(tmp_path, "shop.py") == "['shop.sell']"
    assert names_of(tmp_path / "elsewhere", str(tmp_path / "shop.py")) == "['shop.sell']"
    assert names_of(tmp_path, "-c", "import shop") == "['shop.sell']"


def test_a_script_that_imports_its_neighbours_has_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "prices.py").touch()
    (tmp_path / "store" / "shop.py").write_text("import prices\n" + SHOP)
    assert names_of(tmp_path, "store/shop.py") == "['shop.sell']"


def test_a_child_of_multiprocessing_has_the_names_of_its_parent(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "shop.py").write_text(
        SHOP
        + "if __name__ == '__main__':\n"
        + "    import multiprocessing as mp\n"
        + "    child = mp.get_context('spawn').Process(target=print)\n"
        + "    child.start(); child.join()\n"
    )
    assert names_of(tmp_path, "store/shop.py").splitlines() == ["['store.shop.sell']"] * 2
    assert names_of(tmp_path, "-m", "store.shop").splitlines() == ["['store.shop.sell']"] * 2


def names_of(folder: Path, *arguments: str) -> str:
    ran = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


class Shop:
    async def __call__(self) -> int:
        return 1

    async def sell(self) -> int:
        return 1

    @staticmethod
    async def count() -> int:
        return 1


def test_every_kind_of_async_function_is_known_as_one(app: TaskQ) -> None:
    shop = Shop()
    kinds = [shop, shop.sell, functools.partial(shop.sell), functools.partial(shop), Shop.count, Shop.__dict__["count"]]
    assert [app.task(name=f"t{n}")(kind).is_async for n, kind in enumerate(kinds)] == [True] * len(kinds)


class Bad:
    def generator(self) -> Iterator[int]:
        yield 1

    def __call__(self) -> Iterator[int]:
        yield 1

    @classmethod
    def made(cls) -> None: ...


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Bad(), "generator"),
        (Bad().generator, "generator"),
        (functools.partial(Bad().generator), "generator"),
        (Bad.generator, "generator"),
        (Shop.sell, "no object to call it on"),
        (Bad.__dict__["made"], "no object to call it on"),
        (Shop, "wants a function"),
        (7, "wants a function"),
    ],
)
def test_what_cannot_be_a_task_is_refused_where_it_is_defined(app: TaskQ, given: Any, text: str) -> None:
    app.topic("orders")
    for decorate in (app.task(name="t"), app.subscriber("orders", group="g"), app.on_broadcast("b")):
        with pytest.raises(ConfigError, match=text):
            decorate(given)


@pytest.mark.parametrize("given", [functools.partial(print, 1), Shop()])
def test_what_has_no_name_wants_one(app: TaskQ, given: Any) -> None:
    with pytest.raises(ConfigError, match=r"name='\.\.\.'"):
        app.task(given)
    app.task(name="shop")(given)


def test_functions_without_a_signature_take_what_they_are_given(app: TaskQ) -> None:
    assert app.task(max).name == "builtins.max"
    app.tasks["builtins.max"].check_call((1, 2), {})


def test_a_static_method_is_a_task_like_any_other(app: TaskQ) -> None:
    class Store:
        @app.task
        @staticmethod
        def below(x: int) -> int:
            return x

        @staticmethod
        @app.task
        def above(x: int) -> int:
            return x

    assert (Store.below(1), Store().above(2)) == (1, 2)
    Store.above.check_call((1,), {})


async def later(*args: Any) -> int:
    return 1


def test_functions_that_are_called_at_once_cannot_be_async(app: TaskQ) -> None:
    with pytest.raises(ConfigError, match="sync function"):
        Batch(by=later)
    with pytest.raises(ConfigError, match="sync function"):
        app.hooks.listen("sent", later)  # type: ignore[arg-type]
