"""What each of Redis's error replies does to a call and to its connection."""

from __future__ import annotations

import pytest
from hiredis import ReplyError

from taskq.broker.link.replies import broker_error, ends_connection, is_demoted
from taskq.errors import BrokerAuthError, BrokerError, BrokerRefusedError, BrokerUnavailableError

READONLY = "READONLY You can't write against a read only replica."
WRAPPED = f"ERR Error running script (call to f_1): @user_script:15: @user_script: 15: -{READONLY}"
DEMOTED = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"


@pytest.mark.parametrize(
    ("text", "kind", "ends", "demoted"),
    [
        (READONLY, BrokerUnavailableError, True, True),
        (f"{READONLY} script: 5643fb07, on @user_script:15.", BrokerUnavailableError, True, True),
        (WRAPPED, BrokerUnavailableError, True, True),
        ("MASTERDOWN Link with MASTER is down", BrokerUnavailableError, True, True),
        (DEMOTED, BrokerUnavailableError, True, True),
        ("UNBLOCKED the stream key no longer exists", BrokerUnavailableError, True, False),
        ("LOADING Redis is loading the dataset in memory", BrokerUnavailableError, True, False),
        ("NOREPLICAS Not enough good replicas to write.", BrokerUnavailableError, True, False),
        ("CLUSTERDOWN The cluster is down", BrokerUnavailableError, True, False),
        ("TRYAGAIN Multiple keys request during rehashing of slot", BrokerUnavailableError, True, False),
        ("ERR max number of clients reached", BrokerUnavailableError, True, False),
        ("ERR max number of clients + cluster connections reached", BrokerUnavailableError, True, False),
        ("BUSY Redis is busy running a script.", BrokerUnavailableError, False, False),
        ("MISCONF Errors writing to the AOF file: No space left on device", BrokerUnavailableError, False, False),
        ("BUSYGROUP Consumer Group name already exists", BrokerRefusedError, False, False),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", BrokerRefusedError, False, False),
        ("OOM command not allowed when used memory > 'maxmemory'.", BrokerRefusedError, False, False),
        ("ERR unknown command 'READONLY'", BrokerRefusedError, False, False),
        ("NOAUTH Authentication required.", BrokerAuthError, False, False),
        ("NOPERM this user has no permissions to run the 'xadd' command", BrokerAuthError, False, False),
        ("DENIED Redis is running in protected mode because ...", BrokerAuthError, False, False),
    ],
)
def test_an_error_of_redis_is_passing_final_or_the_end_of_its_connection(
    text: str, kind: type[BrokerError], ends: bool, demoted: bool
) -> None:
    error = ReplyError(text)
    assert type(broker_error(error)) is kind
    assert ends_connection(error) is ends
    assert is_demoted(error) is demoted
