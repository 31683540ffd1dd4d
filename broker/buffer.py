"""A buffer of a size that is about known beforehand. What was written becomes bytes without a copy.

The system gives it zeros that cost nothing until they are written to, so the time for a large one is spread over what
is written.
"""

from collections.abc import Callable
from io import BytesIO
from typing import Final, final

from broker.native import i64

ROOM_MIN: Final[i64] = (32 << 20) + 4096
"""So much address space at the least: the C library has blocks of this size from the system, each for itself. A smaller
one may be made of what was used before, and be cleared as a whole, with the pages that were given back. What is too
much goes when the size is known."""
ROOM_MAX: Final[i64] = 1 << 29
"""No more room is made at once, whatever is asked for; beyond that it grows with what is written."""


@final
class Buffer:
    """Room for ``size`` bytes, and for more if need be."""

    def __init__(self, size: i64) -> None:
        self.size: i64 = 0
        """Bytes written."""
        room = size if size < ROOM_MAX else ROOM_MAX
        # Takes the zeros over, as nobody else has them.
        self._file = BytesIO(bytes(int(room if room > ROOM_MIN else ROOM_MIN)))

    def write(self, data: bytes) -> None:
        """Append."""
        self._file.write(data)
        self.size += len(data)

    def take(self) -> bytes:
        """All that was written. Nothing may be written afterwards."""
        self._file.truncate(int(self.size))
        return self._file.getvalue()

    def fill(self, size: i64, step: i64, source: Callable[[memoryview, int], int]) -> None:
        """Let ``source`` write up to ``size`` bytes, for which there is room: it is told where to, at most ``step``
        bytes, and how many are there already, and says how many it has written, which is 0 when there are no more.
        Nothing may be written before or afterwards.
        """
        with self._file.getbuffer() as whole:
            while self.size < size:
                end = self.size + step
                with whole[int(self.size) : int(end if end < size else size)] as part:
                    count: i64 = source(part, int(self.size))
                if count <= 0:
                    break
                self.size += count
