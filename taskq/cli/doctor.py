"""``taskq doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from taskq.cli.output import echo, print_json
from taskq.cli.session import json_option, passing_app
from taskq.errors import ExitCode

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.observe.doctor import Finding, Report

_COLOURS = {"ERROR": "red", "WARNING": "yellow", "NOTE": "blue"}


@click.command()
@passing_app
@click.option("--fix", is_flag=True, help="Do what is safe: remove leftovers, expire orphans, list lost queues.")
@click.option(
    "--sample-keys",
    type=click.IntRange(0, 10_000_000),
    default=20_000,
    show_default=True,
    help="How many keys of the server to look at for orphans.",
)
@click.option("--acl", is_flag=True, help="Only print the ACL rule with the rights that taskq needs; asks nobody.")
@json_option
def doctor(app: TaskQ, fix: bool, sample_keys: int, acl: bool, as_json: bool) -> None:
    """Find what can lose, delay or strand tasks.

    \b
    taskq doctor -b redis://localhost:6379/0
    taskq doctor --json --fix           in a nightly job
    taskq doctor --acl                  for ACL SETUSER, or an ACL file

    Nothing is written without --fix. Each finding has a severity, a reason and a remedy.

    \b
    exit codes   0 healthy (notes do not count), 1 warnings, 3 errors,
                 2 wrong usage, 69 Redis cannot be reached
    """
    from taskq.observe.doctor import Severity, acl_rule, examine

    if acl:
        rule = acl_rule(app.keys.namespace)
        print_json({"namespace": app.keys.namespace, "rule": rule}) if as_json else click.echo(rule)
        return
    report = examine(app, keys_sampled=sample_keys)
    fixed = [finding for finding in report.findings if fix and finding.fix is not None]
    for finding in fixed:
        assert finding.fix is not None
        finding.fix()
    left = [finding for finding in report.findings if finding not in fixed]
    worst = max((finding.severity for finding in left), default=Severity.NOTE)
    if as_json:
        print_json(_fields(app, report, fixed, healthy=worst is Severity.NOTE))
    else:
        _print(app, report, fixed)
    raise SystemExit({Severity.NOTE: ExitCode.OK, Severity.WARNING: ExitCode.FAILED}.get(worst, ExitCode.UNHEALTHY))


def _print(app: TaskQ, report: Report, fixed: list[Finding]) -> None:
    echo(f"{app.address}, namespace {app.keys.namespace}: {report.server}\n")
    for finding in report.findings:
        name = finding.severity.name
        done = "fixed: " if finding in fixed else "-> "
        click.echo(f"{click.style(f'{name.lower():<8}', fg=_COLOURS[name], bold=True)} {finding.check}")
        echo(f"         {finding.reason}\n         {done}{finding.remedy}\n")
    counts = [sum(finding.severity.name == name for finding in report.findings) for name in _COLOURS]
    errors, warnings, notes = counts
    verdict = "healthy" if not errors + warnings else "not healthy"
    fixes = f", {len(fixed)} fixed" if fixed else ""
    echo(f"{verdict}: {errors} errors, {warnings} warnings, {notes} notes{fixes}")


def _fields(app: TaskQ, report: Report, fixed: list[Finding], *, healthy: bool) -> dict[str, Any]:
    return {
        "broker": str(app.address),
        "namespace": app.keys.namespace,
        "server": report.server,
        "healthy": healthy,
        "findings": [
            {
                "check": finding.check,
                "severity": finding.severity.name.lower(),
                "reason": finding.reason,
                "remedy": finding.remedy,
                "fixable": finding.fix is not None,
                "fixed": finding in fixed,
            }
            for finding in report.findings
        ],
    }
