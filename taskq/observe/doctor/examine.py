"""All checks, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from taskq.client.app import TaskQ
from taskq.errors import BrokerAuthError, BrokerError, BrokerUnavailableError
from taskq.observe.doctor import backlog, clock, consumers, contents, fleet, foreign, rights, server
from taskq.observe.doctor.finding import Finding, Severity, warning
from taskq.observe.doctor.patient import Patient

Check = Callable[[Patient], Iterable[Finding]]

CHECKS: dict[str, Check] = {
    "server": server.check,
    "rights": rights.check,
    "clock": clock.check,
    "backlog": backlog.check,
    "consumers": consumers.check,
    "contents": contents.check,
    "foreign": foreign.check,
    "fleet": fleet.check,
}


@dataclass(frozen=True, slots=True)
class Report:
    """What all checks found, the worst first."""

    server: str
    """What answered."""
    findings: list[Finding]

    @property
    def worst(self) -> Severity:
        """The severity of the worst finding; NOTE when there is none."""
        return max((finding.severity for finding in self.findings), default=Severity.NOTE)


def examine(app: TaskQ, *, keys_sampled: int = 20_000) -> Report:
    """Run every check; nothing is written.

    Args:
        app: says which Redis and which namespace.
        keys_sampled: how many keys of the server are looked at for orphans.

    Raises:
        BrokerUnavailableError: Redis cannot be reached.
        BrokerAuthError: it refuses the user name or the password.
    """
    patient = Patient(app, keys_sampled)
    try:
        patient.ask("PING")
    except BrokerAuthError as error:
        if "NOPERM" not in str(error):
            raise
        if "'ping'" not in str(error):
            return Report("", [rights.greeting_refused(patient, str(error))])
        # it is in, and may do less than it should: see rights
    if (other := server.check_mode(patient)) is not None:
        return Report(server.describe(patient), [other])
    findings = [finding for name, check in CHECKS.items() for finding in _run(name, check, patient)]
    return Report(server.describe(patient), sorted(findings, key=lambda finding: -finding.severity))


def _run(name: str, check: Check, patient: Patient) -> Iterator[Finding]:
    try:
        yield from check(patient)
    except BrokerUnavailableError:
        raise
    except BrokerError as error:
        yield warning(f"{name}.refused", f"this could not be looked at: {error}", "give the user the right, see rights")
