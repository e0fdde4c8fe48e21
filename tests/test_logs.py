"""What the log is protected from."""

from __future__ import annotations

import io
import logging

from wyoming_chatterbox.logs import FORMAT, OneLineFormatter, RepeatLimit, error_kind


def logged_by(repeats: int = 3, seconds: float = 1000.0) -> tuple[logging.Logger, io.StringIO, RepeatLimit]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(OneLineFormatter(FORMAT))
    limit = RepeatLimit(handler, repeats, seconds)
    handler.addFilter(limit)
    logger = logging.Logger("wyoming_chatterbox.protocol.test")
    logger.addHandler(handler)
    return logger, written, limit


def test_no_line_can_be_forged() -> None:
    logger, written, _ = logged_by()
    logger.warning("refused: %s", "a\n2026-01-01 INFO x: forged\x1b[2J\u2028forged")
    try:
        raise ValueError("b\nforged")
    except ValueError:
        logger.exception("It broke")
    lines = written.getvalue().splitlines()
    assert lines[0].endswith("refused: a\\n2026-01-01 INFO x: forged\\x1b[2J\\u2028forged")
    assert not any(line.startswith("forged") for line in lines)


def test_a_line_that_repeats_is_left_out_and_counted() -> None:
    logger, written, limit = logged_by()
    for number in range(10):
        logger.warning("number %d", number)
    logger.info("another")
    assert [line.rpartition(": ")[2] for line in written.getvalue().splitlines()] == [
        "number 0",
        "number 1",
        "number 2",
        "another",
    ]
    limit._seconds = 0.0
    logger.info("later")
    assert "7 more lines of this kind were left out within 0 s: number %d" in written.getvalue()


def test_an_errors_kind_is_its_type_and_its_causes() -> None:
    try:
        try:
            raise KeyError("secret")
        except KeyError as error:
            raise ValueError("secret") from error
    except ValueError as error:
        assert error_kind(error) == "ValueError from KeyError"
