"""A content whose frames do not come in one read, until it is whole: the time and the memory it takes are spread over
what comes.

    few frames, together less than 2 MiB     kept as they came, and joined when the last one is there
    many small frames                        their bodies are put together into frames of 4 KiB: nothing is kept per
                                             frame
    2 MiB and more                           what comes is written to where it stays: a buffer of the size that the
                                             header announces

To join 128 MiB takes 80 ms, most of it for pages that are touched for the first time, and all of it in one turn; two
million frames of one byte cost 60 bytes each, and 60 ms to let go of. What is sized by an announcement takes address
space only: the pages come with the bytes.
"""

from __future__ import annotations

from typing import Final, final

from librt.strings import BytesWriter

from broker.buffer import Buffer
from broker.native import i64, u8
from broker.wire import spec

_JOINED_MAX: Final[i64] = 2 << 20
"""Contents of this size and more are not joined."""
_FRAMES_MAX: Final[i64] = 16
"""So many frames are kept as they came, whatever their size."""
_SMALL: Final[i64] = 2048
"""A frame with a smaller body is a small one."""
_PAYLOAD: Final[i64] = spec.FRAME_MIN_SIZE - spec.FRAME_OVERHEAD
"""What small frames are put together to: every client takes frames of that size."""


@final
class Content:
    """The header frame and the body frames so far."""

    def __init__(self, header: bytes, body_size: i64) -> None:
        self.header_size: i64 = len(header)
        self.body_size: i64 = body_size
        """As announced."""
        self.missing: i64 = body_size
        """Bytes of the body that have not come yet."""
        self.received: i64 = 0
        """Bytes of the body that came before its last frame."""
        self.payload_max: i64 = 0
        """Largest body of a frame, once the content is whole."""
        self._frames: list[bytes] = [header]
        self._size: i64 = self.header_size
        """Bytes in frames."""
        self._small: BytesWriter | None = None
        """A frame that small ones are put together to."""
        self._whole: Buffer | None = None
        """Takes the place of the frames when they are large."""

    def add(self, data: bytes, start: i64, end: i64) -> None:
        """A body frame, with its body at ``data[start:end]``: at most ``missing`` bytes, and at least one."""
        size = end - start
        self.missing -= size
        if self.missing > 0:
            self.received += size
        if size < _SMALL and (self._whole is not None or len(self._frames) >= _FRAMES_MAX):
            self._add_small(data, start, end)
            return
        self._end_small()
        self._keep(data[start - 7 : end + 1], size)

    def _add_small(self, data: bytes, start: i64, end: i64) -> None:
        small = self._small
        if small is not None and len(small) - 7 + end - start > _PAYLOAD:
            self._end_small()
            small = None
        if small is None:
            small = BytesWriter()
            small.write(data[start - 7 : start])
            self._small = small
        if end - start == 1:
            small.append(data[start])
        else:
            small.write(data[start:end])

    def _end_small(self) -> None:
        small = self._small
        if small is None:
            return
        self._small = None
        size: i64 = len(small) - 7
        small.append(0xCE)
        at: i64 = 3
        while at < 7:
            small[at] = u8((size >> (8 * (6 - at))) & 0xFF)
            at += 1
        self._keep(small.getvalue(), size)

    def _keep(self, frame: bytes, payload: i64) -> None:
        if payload > self.payload_max:
            self.payload_max = payload
        self._size += len(frame)
        whole = self._whole
        if whole is not None:
            whole.write(frame)
            return
        self._frames.append(frame)
        if self._size >= _JOINED_MAX and self.missing > 0:
            self._begin_whole()

    def _begin_whole(self) -> None:
        """Write what is there to a buffer with room for all, and from now on what comes."""
        frames = self._frames
        self._frames = []
        come = self.body_size - self.missing
        frame_size = come // (len(frames) - 1) + 1
        frames_left = self.missing // frame_size + 1  # about: if they go on as they began
        whole = Buffer(self._size + self.missing + frames_left * spec.FRAME_OVERHEAD)
        for frame in frames:
            whole.write(frame)
        self._whole = whole

    def joined(self) -> bytes:
        """All frames, one behind the other. Called once, when nothing is missing any more."""
        self._end_small()
        whole = self._whole
        if whole is not None:
            return whole.take()
        frames = self._frames
        return frames[0] if len(frames) == 1 else b"".join(frames)
