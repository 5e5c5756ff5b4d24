"""``taskq doctor``: looks at a Redis and a namespace for what can lose, delay or strand tasks.

Each family of checks is a module with one function that takes a :class:`Patient` and yields findings. A look is
bounded: at most :data:`taskq.observe.doctor.patient.MOST_QUEUES` queues, samples of messages, pages of keys.
"""

from taskq.observe.doctor.examine import Report, examine
from taskq.observe.doctor.finding import Finding, Severity
from taskq.observe.doctor.rights import acl_rule

__all__ = ["Finding", "Report", "Severity", "acl_rule", "examine"]
