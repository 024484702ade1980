"""Where the outcome of a command by message may go: to queues that exist to be answered to.

Whoever may send commands would otherwise have us publish into any queue of the broker, one of ours
or of a neighbour. Answers go through the default exchange, which knows queues only.
"""

from __future__ import annotations

RESERVED = "reply."
"""What the name of a queue for replies begins with; no queue for anything else does."""
DIRECT = "amq.rabbitmq.reply-to."
"""RabbitMQ's own, of a sender that is still connected: https://www.rabbitmq.com/docs/direct-reply-to"""


def takes_replies(queue: str) -> bool:
    """Whether a queue of this name is for replies."""
    return queue.startswith((RESERVED, DIRECT))
