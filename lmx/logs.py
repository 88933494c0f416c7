"""structlog for everything: lines for people on a terminal, JSON for programs; always on stderr."""

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

from lmx.config import Logs


class Stderr:
    """stderr for the log: when nobody reads it any more, lmx goes on without it."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def configure(logs: Logs) -> None:
    """Set up structlog, and lead the standard library's loggers (aiohttp, pykka) into it."""
    console = logs.format == "console" or (logs.format == "auto" and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[logs.level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.UnicodeDecoder(),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", Stderr())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(Stderr())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
