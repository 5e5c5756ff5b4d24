"""Finding the app that a command names: ``module:attribute``, ``module`` or ``module.attribute``."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import Any

from taskq import logs
from taskq.client.app import TaskQ, default_app
from taskq.errors import ConfigError


def load_app(path: str) -> TaskQ:
    """Import the app.

    Args:
        path: ``shop:app``; with the module alone, its only ``TaskQ`` (or, when it has none, the default app
            of ``@taskq.task``). The current directory is searched first.

    Raises:
        ConfigError: no module's name, no such module, or no app in it.
    """
    module_name, _, attribute = path.partition(":")
    if not all(re.split(r"[./\\]", module_name)):
        raise ConfigError(f"{module_name!r} is not a module. {_hint_at_module(module_name, attribute)}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise  # the module was found; what it imports was not
        raise ConfigError(
            f"cannot import {module_name!r}: no module {error.name!r} in {os.getcwd()} or the installed packages. "
            + _hint_at_module(module_name, attribute)
        ) from error
    logs.code_imported(module_name.partition(".")[0])
    if attribute:
        app = getattr(module, attribute, None)
        if not isinstance(app, TaskQ):
            raise ConfigError(f"{path!r}: {module_name} has no TaskQ named {attribute!r}{_hint(module)}")
        return app
    return _only_app(module, module_name)


def _hint_at_module(name: str, attribute: str) -> str:
    """What to write instead of *name*: for ``src/shop.py`` it is ``src.shop``."""
    dotted = ".".join(part for part in re.split(r"[./\\]", name.removesuffix(".py")) if part)
    if not dotted or dotted == name:
        return "Write -A module:app, for example -A shop.tasks:app"
    return f"Write a module as in an import: -A {dotted}:{attribute or 'app'}"


def _apps(module: Any) -> dict[str, TaskQ]:
    return {name: value for name, value in vars(module).items() if isinstance(value, TaskQ)}


def _hint(module: Any) -> str:
    names = ", ".join(_apps(module))
    return f"; it has {names}" if names else ""


def _only_app(module: Any, name: str) -> TaskQ:
    apps = list({id(app): app for app in _apps(module).values()}.values())
    if len(apps) == 1:
        return apps[0]
    if apps:
        raise ConfigError(f"{name!r} has several apps ({', '.join(_apps(module))}); write -A {name}:<one of them>")
    app = default_app()
    if any(task.__module__ == module.__name__ for task in app.tasks.values()):
        return app
    raise ConfigError(f"{name!r} has no TaskQ; write -A module:attribute")
