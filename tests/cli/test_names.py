"""A name that nothing has is wrong usage, and changes nothing; an id that is not there is an answer."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from support.keys import delete_keys

from taskq import TaskQ
from taskq.cli import main
from taskq.errors import ExitCode


def run(redis_url: str, namespace: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "-b", redis_url, "--namespace", namespace])


@pytest.mark.parametrize(
    "command",
    [
        "tasks stats --queue typo", "tasks list typo", "tasks show 1 --queue typo", "tasks revoke 1 --queue typo",
        "pause typo", "resume typo", "purge typo --yes",
        "dlq list --queue typo", "dlq groups --queue typo", "dlq show 1-1 --queue typo", "dlq runs --queue typo",
        "dlq replay --queue typo", "dlq replay --all --to typo", "dlq purge --queue typo --yes",
        "dlq edit 1-1 --args [] --queue typo", "dlq export - --queue typo",
        "events groups typo", "events tail typo", "events publish typo 1", "events replay typo --group g",
        "events seek typo --group g --to latest", "events seek orders --group typo --to latest",
        "events replay orders --group typo",
        "schedule show typo", "schedule pause typo", "schedule run typo", "schedule next typo",
        "schedule history typo", "schedule remove typo --yes",
    ],
)  # fmt: skip
def test_a_name_that_nothing_has(command: str, app: TaskQ, redis_url: str, namespace: str, redis_client: Any) -> None:
    app.topic("orders")
    app.publish("orders", 1)
    before = redis_client.info("persistence")["rdb_changes_since_last_save"]
    done = run(redis_url, namespace, *command.split())
    assert done.exit_code == ExitCode.USAGE, done.output
    assert "typo" in done.stderr
    assert redis_client.info("persistence")["rdb_changes_since_last_save"] == before
    delete_keys(redis_client, namespace)


@pytest.mark.parametrize(
    "command",
    ["tasks show 77", "tasks revoke 77", "dlq show 77", "dlq show 1-1", "dlq replay 77", "dlq purge 1-1 --yes",
     "dlq edit 1-1 --args []"],
)  # fmt: skip
def test_an_id_that_is_not_there(command: str, redis_url: str, namespace: str, redis_client: Any) -> None:
    done = run(redis_url, namespace, *command.split())
    assert done.exit_code == ExitCode.FAILED, done.output
    assert "no trace of" in done.output or "no dead letter" in done.output
    delete_keys(redis_client, namespace)


@pytest.mark.parametrize("command", ["tasks list default --task typo", "dlq list --task typo", "dlq list --error X"])
def test_a_filter_that_leaves_nothing(command: str, redis_url: str, namespace: str) -> None:
    assert run(redis_url, namespace, *command.split()).exit_code == ExitCode.OK


def test_every_command_that_ends_can_print_json() -> None:
    services = {"worker", "beat", "metrics", "dashboard", "outbox-relay", "demo", "top"}

    def without(path: str, command: Any) -> list[str]:
        if not isinstance(command, click.Group):
            return [] if any("--json" in each.opts for each in command.params) else [path]
        context = click.Context(command)
        found = {name: command.get_command(context, name) for name in command.list_commands(context)}
        return [each for name, one in found.items() if name not in services for each in without(f"{path} {name}", one)]

    assert without("taskq", main) == []
