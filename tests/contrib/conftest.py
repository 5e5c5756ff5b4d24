"""A database for each test: SQLite in a file, and PostgreSQL on a server of the run's own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from support.postgres import postgres_server

from taskq.contrib.sqlalchemy import create_tables


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server, without a database."""
    with postgres_server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """URL of an empty database."""
    name = f"t{secrets.token_hex(6)}"
    admin = create_engine(f"{postgres}/postgres", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield f"{postgres}/{name}"
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database; runs the test on SQLite and on PostgreSQL."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/shop.db"


@pytest.fixture
def make_engine() -> Iterator[Callable[[str], Engine]]:
    """Engines that are disposed of at the end."""
    made: list[Engine] = []

    def make(url: str) -> Engine:
        made.append(create_engine(url))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


@pytest.fixture
def engine(database_url: str, make_engine: Callable[[str], Engine]) -> Engine:
    """A database with taskq's tables, and with ``effect(name, value)`` of the user's."""
    engine = make_engine(database_url)
    create_tables(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE effect (name VARCHAR(100) NOT NULL, value INTEGER NOT NULL)"))
    return engine
