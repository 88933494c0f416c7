"""What all tests share."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.support.witness import hook

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
hook.install_here()


@pytest.fixture(autouse=True)
def witnessed() -> Iterator[None]:
    """Every reply, chunk and error that a test provokes is what OpenAI's schema says."""
    yield
    hook.check()
