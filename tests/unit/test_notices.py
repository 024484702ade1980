"""What a message says of itself, and which of them tell the truth."""

from __future__ import annotations

import pytest

from codebase.engine.projections.feed import Delivery, Notice
from codebase.engine.projections.notice_check import NoticeCheck
from codebase.engine.projections.queue_feed import read_notice


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b'{"position": 1}',
        b'{"event_id":"x","stream_id":"y","partition":0,"position":1}',
        b"\xff\xfe",
        (
            b'{"event_id":"01a1fbef-6c7f-741a-915d-82d2d95b3a5c",'
            b'"stream_id":"3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe","partition":0,"position":NaN}'
        ),
    ],
)
def test_a_message_that_is_not_ours_is_told_from_one_that_is(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^[a-z_.]+: [a-z_]+$"):
        read_notice(body)


def delivery(position: int, partition: int = 0) -> Delivery:
    body = (
        '{"event_id":"01a1fbef-6c7f-741a-915d-82d2d95b3a5c",'
        '"stream_id":"3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe",'
        f'"partition":{partition},"position":{position}}}'
    ).encode()
    return Delivery(connection=1, tag=1, routing_key="a.b", body=body, notice=read_notice(body))


def test_a_repeat_is_no_question_for_the_log() -> None:
    notices = NoticeCheck([delivery(5)], partition=0, checkpoint=5)
    assert not notices.open
    notices.judge_the_rest()
    assert notices.rejected == []


def test_a_position_that_the_log_does_not_have_is_a_lie() -> None:
    notices = NoticeCheck([delivery(6)], partition=0, checkpoint=5)
    assert notices.open
    notices.judge([])
    notices.judge_the_rest()
    assert [reason for _, reason in notices.rejected] == ["the log has no such position"]


def test_a_message_of_another_partition_is_refused() -> None:
    notices = NoticeCheck([delivery(6, partition=1)], partition=0, checkpoint=5)
    assert [reason for _, reason in notices.rejected] == ["not an event of partition 0"]


def test_a_notice_carries_what_the_body_says() -> None:
    notice = delivery(6).notice
    assert isinstance(notice, Notice)
    assert (notice.partition, notice.position) == (0, 6)
