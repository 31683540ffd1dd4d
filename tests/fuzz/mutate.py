"""Bends octets and frames: everything follows from the random source that is handed in."""

from __future__ import annotations

import random
import struct
from typing import Final

from tests.support.wire import METHOD, Frame, frame, split_frames

NUMBERS: Final = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)
TAGS: Final = b"tbBsuIilLfdDSxATFV?\x00"


def frames_of(parts: list[bytes]) -> list[Frame]:
    """The single frames of what a conversation says."""
    return [each for part in parts for each in split_frames(part)]


def octets(data: bytes, chance: random.Random) -> bytes:
    """The octets with one to three changes."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        size = len(changed)
        place = chance.randrange(size) if size else 0
        match chance.randrange(9):
            case 0 if size:
                changed[place] ^= 1 << chance.randrange(8)
            case 1 if size:
                changed[place] = chance.randrange(256)
            case 2:
                del changed[place:]
            case 3:
                del changed[place : place + chance.randrange(1, 9)]
            case 4:
                changed[place:place] = chance.randbytes(chance.randrange(1, 9))
            case 5:
                layout = chance.choice((">B", ">H", ">I", ">Q"))
                width = struct.calcsize(layout)
                number = chance.choice(NUMBERS) & ((1 << (8 * width)) - 1)
                changed[place : place + width] = struct.pack(layout, number)
            case 6:
                start = chance.randrange(size + 1)
                changed[place:place] = changed[start : start + chance.randrange(1, 33)]
            case 7 if size:
                changed[place] = chance.choice(TAGS)
            case _:
                changed += chance.randbytes(chance.randrange(1, 5))
    return bytes(changed)


def splice(one: bytes, other: bytes, chance: random.Random) -> bytes:
    """The beginning of one and the end of another."""
    return one[: chance.randrange(len(one) + 1)] + other[chance.randrange(len(other) + 1) :]


def bend(frames: list[Frame], donors: list[Frame], chance: random.Random) -> list[bytes]:
    """The frames as octets, some of them changed, dropped, doubled, moved or replaced; most stay, so that the rest is
    reached."""
    rate = chance.choice((0.0, 0.02, 0.05, 0.1, 0.3))
    result: list[bytes] = []
    order = list(frames)
    for _ in range(chance.choice((0, 0, 1, 2))):
        one, other = chance.randrange(len(order)), chance.randrange(len(order))
        order[one], order[other] = order[other], order[one]
    for each in order:
        whole = frame(each.kind, each.channel, each.payload)
        if chance.random() >= rate:
            result.append(whole)
            continue
        match chance.randrange(14):
            case 0:
                continue
            case 1:
                result += [whole, whole]
            case 10 | 11 | 12 | 13:  # another method in between: valid by itself, perhaps not here
                donor = chance.choice([donor for donor in donors if donor.kind == METHOD])
                result += [whole, frame(METHOD, each.channel if donor.channel else 0, donor.payload)]
            case 2:
                donor = chance.choice(donors)
                result += [whole, frame(donor.kind, each.channel, donor.payload)]
            case 3:
                result.append(frame(each.kind, chance.choice((0, 1, 2, 3, 2047, 65535)), each.payload))
            case 4:
                result.append(frame(chance.choice((1, 2, 3, 8, 0, 4, 255)), each.channel, each.payload))
            case 5:
                result.append(
                    frame(each.kind, each.channel, splice(each.payload, chance.choice(donors).payload, chance))
                )
            case 6:
                wrong = max(0, len(each.payload) + chance.choice((-8, -1, 1, 8, 4000, 1 << 20)))
                result.append(frame(each.kind, each.channel, each.payload, size=wrong))
            case 7:
                result.append(octets(whole, chance))
            case _:
                result.append(frame(each.kind, each.channel, octets(each.payload, chance)))
    return result


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    """The stream as reads: one, a few, or many small ones."""
    style = chance.randrange(4)
    if style == 0 or not data:
        return [data]
    largest = (1, 20, 200, 2000)[style] if style > 1 or len(data) < 3000 else 64
    pieces: list[bytes] = []
    position = 0
    while position < len(data):
        size = chance.randrange(1, largest + 1)
        pieces.append(data[position : position + size])
        position += size
    return pieces


def taken(parts: list[bytes], size: int) -> int:
    """How many of the parts lie within the first `size` octets."""
    count = 0
    for part in parts:
        size -= len(part)
        if size < 0:
            break
        count += 1
    return count
