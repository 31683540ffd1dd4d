"""Bytes in Erlang's notation: RabbitMQ's error texts quote what a client sent that way, and clients' tests compare
texts."""


def binary(value: bytes) -> str:
    """``<<"abc">>`` if it is printable text, ``<<1,2,3>>`` if not, ``<<>>`` if empty (Erlang's ``~p``)."""
    if not value:
        return "<<>>"
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    escaped = (
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    )
    if not escaped.isprintable():
        return octets(value)
    return f'<<"{escaped}">>' if text.isascii() else f'<<"{escaped}"/utf8>>'


def octets(value: bytes) -> str:
    """``<<1,2,3>>`` whatever the bytes mean (Erlang's ``~w``)."""
    return f"<<{','.join([str(octet) for octet in value])}>>"


def frame(kind: int, payload: bytes) -> str:
    """How RabbitMQ begins its texts about a frame: type and payload, or the first 16 octets of a longer one."""
    if len(payload) > 16:
        return f"type {kind}, first 16 octets = {binary(payload[:16])}"
    return f"type {kind}, all octets = {binary(payload)}"
