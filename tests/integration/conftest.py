"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from codebase.foundation.settings import Settings
from tests.integration.jobs import Shop, shop_open
from tests.integration.payments import Outside, outside_open

if TYPE_CHECKING:
    from tests.conftest import RabbitUnderTest
    from tests.databases import Databases


@pytest.fixture
def with_broker(databases: Databases, rabbitmq_server: RabbitUnderTest) -> Iterator[Settings]:
    """Settings of this test's databases and of a virtual host of its own."""
    name = uuid4().hex
    url = rabbitmq_server.add_vhost(name)
    yield databases.settings.model_copy(update={"broker_url": url, "read_model_check_seconds": 0.2})
    rabbitmq_server.delete_vhost(name)


@pytest.fixture
def outside(free_port: Callable[[], int]) -> Iterator[Outside]:
    """A fraud police and a payment provider that do as they are told."""
    with outside_open(free_port()) as opened:
        yield opened


@pytest.fixture
def shop(free_port: Callable[[], int]) -> Iterator[Shop]:
    """Somebody outside who does jobs."""
    with shop_open(free_port()) as opened:
        yield opened
