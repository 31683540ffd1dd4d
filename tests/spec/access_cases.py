"""Who is refused what: each method that names a resource, asked by a user with few permissions, and what RabbitMQ
3.10.8 has answered. Where its words differ, these are those of 3.13: 3.10 says "access to ..." without the permission,
and 503 for an exchange type that it does not know.

The world of each case: exchanges `x` (direct), `t` (topic), `y` (fanout) and `i` (internal); queues `q`, bound to `x`
and to `t` with the key `k`, and `dying`, whose dead letter exchange is `y`; an exchange `other`, whose alternate
exchange is `y`. For topics of `t` the user has the patterns `TOPICS`.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from tests.support.wire import method, publish

NONE: Final = "^$"
ALL: Final = ".*"
TOPICS: Final = ("^a", "^a")
"""What the user may write to and read from."""
WORLD: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("exchange.declare", {"exchange": "x", "type": "direct"}),
    ("exchange.declare", {"exchange": "t", "type": "topic"}),
    ("exchange.declare", {"exchange": "y", "type": "fanout"}),
    ("exchange.declare", {"exchange": "i", "type": "direct", "internal": True}),
    ("exchange.declare", {"exchange": "other", "type": "direct", "arguments": {"alternate-exchange": "y"}}),
    ("queue.declare", {"queue": "q"}),
    ("queue.declare", {"queue": "dying", "arguments": {"x-dead-letter-exchange": "y"}}),
    ("queue.bind", {"queue": "q", "exchange": "x", "routing_key": "k"}),
    ("queue.bind", {"queue": "q", "exchange": "t", "routing_key": "k"}),
)

TABLE: Final = """
basic.publish
    exchange=x routing_key=k                         | - - -        | write access to exchange 'x'
    exchange=x routing_key=k                         | - x -        | ok
    exchange= routing_key=q                          | - x -        | write access to exchange 'amq.default'
    exchange= routing_key=q                          | - - -        | write access to exchange 'amq.default'
    exchange= routing_key=q                          | - amq.default - | ok
    exchange=missing routing_key=k                   | - - -        | write access to exchange 'missing'
    exchange=missing routing_key=k                   | - * -        | 404 no exchange 'missing'
    exchange=i routing_key=k                         | - - -        | write access to exchange 'i'
    exchange=i routing_key=k                         | - * -        | 403 cannot publish to internal exchange 'i'
    exchange=t routing_key=k                         | - * -        | write access to topic 'k' in exchange 't'
    exchange=t routing_key=ab                        | - * -        | ok
basic.consume
    queue=q                                          | - * -        | read access to queue 'q'
    queue=q                                          | - - q        | ok
    queue=missing                                    | - * -        | read access to queue 'missing'
    queue=missing                                    | - - *        | 404 no queue 'missing'
    queue=                                           | - - -        | 404 no previously declared queue
basic.get
    queue=q                                          | - * -        | read access to queue 'q'
    queue=q                                          | - - q        | ok
    queue=missing                                    | - * -        | read access to queue 'missing'
    queue=missing                                    | - - *        | 404 no queue 'missing'
    queue=                                           | - - -        | 404 no previously declared queue
queue.purge
    queue=q                                          | - * -        | read access to queue 'q'
    queue=q                                          | - - q        | ok
    queue=missing                                    | - * -        | read access to queue 'missing'
    queue=missing                                    | - - *        | 404 no queue 'missing'
    queue=                                           | - - -        | 404 no previously declared queue
basic.consume
    queue=amq.rabbitmq.reply-to no_ack               | - - -        | ok
queue.delete
    queue=q                                          | - * *        | configure access to queue 'q'
    queue=q                                          | q - -        | ok
    queue=missing                                    | - - -        | configure access to queue 'missing'
    queue=missing                                    | * - -        | ok
queue.declare
    queue=new                                        | - * *        | configure access to queue 'new'
    queue=new                                        | new - -      | ok
    queue=q                                          | - * *        | configure access to queue 'q'
    queue=q passive                                  | - - -        | ok
    queue=missing passive                            | - - -        | 404 no queue 'missing'
    queue=amq.new                                    | - - -        |
        403 queue name 'amq.new' contains reserved prefix 'amq.*'
    queue=                                           | - - -        | configure access to queue 'amq.gen-'
    queue=                                           | amq.gen* - - | ok
    queue=amq.rabbitmq.reply-to                      | - - -        | ok
    queue=new x-dead-letter-exchange=x               | new * -      | read access to queue 'new'
    queue=new x-dead-letter-exchange=x               | new - new    | write access to exchange 'x'
    queue=new x-dead-letter-exchange=x               | new x new    | ok
    queue=new x-dead-letter-exchange=                | new - *      | write access to exchange 'amq.default'
    queue=new x-dead-letter-exchange=1               | new - -      |
        406 invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'new'
    queue=new x-dead-letter-exchange=x x-expires=soon | new - -      | read access to queue 'new'
    queue=dying x-dead-letter-exchange=y             | dying - -    | ok
    queue=dying x-dead-letter-exchange=x             | dying - -    |
        406 inequivalent arg 'x-dead-letter-exchange' for queue 'dying': received 'x' but current is 'y'
    queue= x-dead-letter-exchange=x                  | amq.gen* * - | read access to queue 'amq.gen-'
queue.bind
    queue=q exchange=x routing_key=k                 | - - *        | write access to queue 'q'
    queue=q exchange=x routing_key=k                 | - q -        | read access to exchange 'x'
    queue=q exchange=x routing_key=k                 | - q x        | ok
    queue=missing exchange=missing routing_key=k     | - - -        | write access to queue 'missing'
    queue=missing exchange=missing routing_key=k     | - * -        | read access to exchange 'missing'
    queue=missing exchange=x routing_key=k           | - * *        | 404 no queue 'missing'
    queue=q exchange=missing routing_key=k           | - * *        | 404 no exchange 'missing'
    queue=q exchange= routing_key=k                  | - - -        | write access to queue 'q'
    queue=q exchange= routing_key=k                  | - q -        |
        403 operation not permitted on the default exchange
    queue=q exchange=t routing_key=k                 | - q t        | read access to topic 'k' in exchange 't'
    queue=q exchange=t routing_key=ab                | - q t        | ok
    queue=missing exchange=t routing_key=k           | - * *        | read access to topic 'k' in exchange 't'
    queue= exchange=x routing_key=                   | - - -        | 404 no previously declared queue
queue.unbind
    queue=q exchange=x routing_key=k                 | - - *        | write access to queue 'q'
    queue=q exchange=x routing_key=k                 | - q -        | read access to exchange 'x'
    queue=q exchange=x routing_key=k                 | - q x        | ok
    queue=missing exchange=missing routing_key=k     | - - -        | write access to queue 'missing'
    queue=missing exchange=missing routing_key=k     | - * -        | read access to exchange 'missing'
    queue=missing exchange=x routing_key=k           | - * *        | ok
    queue=q exchange=missing routing_key=k           | - * *        | ok
    queue=q exchange= routing_key=k                  | - - -        | write access to queue 'q'
    queue=q exchange= routing_key=k                  | - q -        |
        403 operation not permitted on the default exchange
    queue=q exchange=t routing_key=k                 | - q t        | read access to topic 'k' in exchange 't'
    queue=q exchange=t routing_key=ab                | - q t        | ok
    queue=missing exchange=t routing_key=k           | - * *        | read access to topic 'k' in exchange 't'
    queue= exchange=x routing_key=                   | - - -        | 404 no previously declared queue
exchange.declare
    exchange=new type=direct                         | - * *        | configure access to exchange 'new'
    exchange=new type=direct                         | new - -      | ok
    exchange=x type=direct                           | - * *        | configure access to exchange 'x'
    exchange=x type=topic                            | x - -        |
        406 inequivalent arg 'type' for exchange 'x': received 'topic' but current is 'direct'
    exchange=x type=direct passive                   | - - -        | ok
    exchange=missing type=direct passive             | - - -        | 404 no exchange 'missing'
    exchange= type=direct                            | - - -        |
        403 operation not permitted on the default exchange
    exchange=amq.new type=direct                     | - - -        | configure access to exchange 'amq.new'
    exchange=amq.new type=direct                     | * - -        |
        403 exchange name 'amq.new' contains reserved prefix 'amq.*'
    exchange=new type=fancy                          | - - -        | 406 unknown exchange type 'fancy'
    exchange=new type=direct alternate-exchange=x    | new * -      | read access to exchange 'new'
    exchange=new type=direct alternate-exchange=x    | new - new    | write access to exchange 'x'
    exchange=new type=direct alternate-exchange=x    | new x new    | ok
    exchange=new type=direct alternate-exchange=     | new - *      | write access to exchange 'amq.default'
    exchange=new type=direct alternate-exchange=1    | new - -      |
        406 invalid type 'signedint' for arg 'alternate-exchange' in exchange 'new'
    exchange=other type=direct alternate-exchange=y  | other - -    | ok
    exchange=amq.new type=direct alternate-exchange=x | amq.new * -  |
        403 exchange name 'amq.new' contains reserved prefix 'amq.*'
exchange.delete
    exchange=x                                       | - * *        | configure access to exchange 'x'
    exchange=x                                       | x - -        | ok
    exchange=missing                                 | - - -        | configure access to exchange 'missing'
    exchange=missing                                 | * - -        | ok
    exchange=amq.direct                              | - - -        |
        403 deletion of system exchange 'amq.direct' not allowed
    exchange=                                        | - - -        |
        403 operation not permitted on the default exchange
exchange.bind
    destination=y source=x routing_key=k             | - - *        | write access to exchange 'y'
    destination=y source=x routing_key=k             | - y -        | read access to exchange 'x'
    destination=y source=x routing_key=k             | - y x        | ok
    destination=missing source=missing routing_key=k | - - -        | write access to exchange 'missing'
    destination=missing source=missing routing_key=k | - * -        | read access to exchange 'missing'
    destination=missing source=x routing_key=k       | - * *        | 404 no exchange 'missing'
    destination=y source=missing routing_key=k       | - * *        | 404 no exchange 'missing'
    destination=y source= routing_key=k              | - - -        | write access to exchange 'y'
    destination=y source= routing_key=k              | - y -        |
        403 operation not permitted on the default exchange
    destination= source=x routing_key=k              | - - -        | write access to exchange 'amq.default'
    destination= source=x routing_key=k              | - amq.default - |
        403 operation not permitted on the default exchange
    destination=y source=t routing_key=k             | - y t        | read access to topic 'k' in exchange 't'
    destination=y source=t routing_key=ab            | - y t        | ok
exchange.unbind
    destination=y source=x routing_key=k             | - - *        | write access to exchange 'y'
    destination=y source=x routing_key=k             | - y -        | read access to exchange 'x'
    destination=y source=x routing_key=k             | - y x        | ok
    destination=missing source=missing routing_key=k | - - -        | write access to exchange 'missing'
    destination=missing source=missing routing_key=k | - * -        | read access to exchange 'missing'
    destination=missing source=x routing_key=k       | - * *        | ok
    destination=y source=missing routing_key=k       | - * *        | ok
    destination=y source= routing_key=k              | - - -        | write access to exchange 'y'
    destination=y source= routing_key=k              | - y -        |
        403 operation not permitted on the default exchange
    destination= source=x routing_key=k              | - - -        | write access to exchange 'amq.default'
    destination= source=x routing_key=k              | - amq.default - |
        403 operation not permitted on the default exchange
    destination=y source=t routing_key=k             | - y t        | read access to topic 'k' in exchange 't'
    destination=y source=t routing_key=ab            | - y t        | ok
basic.qos
    prefetch_count=1                                 | - - -        | ok
basic.cancel
    consumer_tag=none                                | - - -        | ok
tx.select
                                                     | - - -        | ok
confirm.select
                                                     | - - -        | ok
basic.recover
    requeue                                          | - - -        | ok
"""
"""Method; its arguments, the names of what he may configure, write and read (`-` for nothing, `*` for everything), and
the answer: `ok`, reply code and text, or what is refused. All texts without the name of the code and the vhost."""


class Case(NamedTuple):
    """One method, and what a user with these permissions hears."""

    name: str
    arguments: dict[str, object]
    configure: str
    write: str
    read: str
    answer: str
    """Empty if it is allowed."""

    def frames(self) -> bytes:
        """What the client says."""
        if self.name == "basic.publish":
            return publish(1, str(self.arguments["exchange"]), str(self.arguments["routing_key"]), b"")
        return method(1, self.name, **self.arguments)


def _arguments(text: str) -> dict[str, object]:
    found: dict[str, object] = {}
    table: dict[str, object] = {}
    for part in text.split():
        name, equals, value = part.partition("=")
        if "-" in name and name != "no_ack":
            table[name] = int(value) if value.isdigit() else value
        else:
            found[name] = int(value) if value.isdigit() else value if equals else True
    return found | ({"arguments": table} if table else {})


def _pattern(text: str) -> str:
    if text in "-*":
        return {"-": NONE, "*": ALL}[text]
    return f"^{re.escape(text.rstrip('*'))}" + ("" if text.endswith("*") else "$")


def _cases() -> list[Case]:
    cases = []
    name = ""
    for line in re.sub(r"\|\n +", "| ", TABLE.strip()).splitlines():
        if not line.startswith(" "):
            name = line
            continue
        arguments, permissions, answer = line.split("|")
        answer = "" if answer.strip() == "ok" else answer.strip()
        if answer and not answer[0].isdigit():
            answer = f"403 {answer} refused for user 'other'"
        configure, write, read = map(_pattern, permissions.split())
        cases.append(Case(name, _arguments(arguments), configure, write, read, answer))
    return cases


CASES: Final = _cases()
