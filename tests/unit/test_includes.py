"""Scripts and their includes: nothing is included twice, and nothing lies about unused."""

from __future__ import annotations

import re

from taskq.broker.calls import LUA, load

SCRIPTS = sorted(path.stem for path in LUA.glob("*.lua"))
PARTS = {
    str(path.relative_to(LUA / "include").with_suffix("")): path.read_text() for path in LUA.rglob("include/**/*.lua")
}


def test_every_include_is_used() -> None:
    texts = [path.read_text() for path in LUA.rglob("*.lua")]
    asked_for = {part for text in texts for part in re.findall(r"^ *-- include ([\w/]+)$", text, flags=re.M)}
    assert asked_for == set(PARTS)


def test_no_script_has_an_include_twice_or_one_that_is_missing() -> None:
    for name in SCRIPTS:
        text = load(name).text
        assert not re.search(r"^ *-- include [\w/]+$", text, flags=re.M), name
        assert not [part for part, body in PARTS.items() if text.count(body) > 1], name


def test_includes_may_include() -> None:
    """A part that needs another asks for it, whoever else has done so already."""
    assert load("settle").text.count("local function advance(") == 1
