"""What the manifest says, brought back into the logs at the start; and what stands in the directory of the segments, compared with it."""

import contextlib
import errno

from broker.store.datadir import DataDir
from broker.store.filesystem import DiskError, FileSystem
from broker.store.index import decode_positions
from broker.store.log import Log
from broker.store.logs import Logs
from broker.store.manifest import ManifestState, segment_parts, segment_size, state_of
from broker.store.piece import Piece, Segment, Stretch
from broker.store.read_back import index_place
from broker.store.reading import ATTEMPTS_MAX
from broker.store.records import TRANSIENT
from broker.store.segment import KEPT, SUFFIX, number_of, read_stretches, segment_name


def restore(data_dir: DataDir, state: ManifestState, logs: Logs, damaged: bool) -> list[str]:
    """Give the logs their pieces and states. What was found wrong, for people.

    A manifest that is ``damaged`` or gone may not know all segments.

    Raises: DiskError
    """
    filesystem = data_dir.filesystem
    names = filesystem.names("segment.list", data_dir.segments)
    findings: list[str] = []
    for name in names:
        number = number_of(name)
        if number is None or name.endswith(KEPT):
            continue
        logs.next_segment = max(int(logs.next_segment), number + 1)
        if number not in state.segments or not name.endswith(SUFFIX):
            _clear_away(filesystem, data_dir.segments, name, damaged, findings)
    logs.next_segment = max(int(logs.next_segment), state.next_segment)
    logs.next_number = max(int(logs.next_number), state.next_log)
    for number, body in state.logs.items():
        mark, positions = state_of(body)
        try:
            logs.open(number).restored(mark, decode_positions(positions))
        except ValueError:
            findings.append(f"the manifest says nothing sensible of log {number}")
    for number, body in state.segments.items():
        segment = Segment(number, segment_size(body))
        logs.segments[number] = segment
        if _is_there(filesystem, data_dir.segments, segment, findings):
            _add_pieces(logs, segment, body)
    for log in logs.logs.values():
        if len(log.pieces) > 1:
            log.pieces.sort(key=_first_of)
    return findings


def _first_of(piece: Piece) -> int:
    return int(piece.first)


def _clear_away(filesystem: FileSystem, directory: str, name: str, damaged: bool, findings: list[str]) -> None:
    """A segment that was never finished, or to which nothing refers."""
    path = f"{directory}/{name}"
    with contextlib.suppress(DiskError):
        if damaged and name.endswith(SUFFIX):
            filesystem.rename("segment.keep", path, path.removesuffix(SUFFIX) + KEPT)
            findings.append(f"{path}: no manifest names it, or a damaged one; it is kept, as {KEPT}")
        else:
            filesystem.unlink("segment.discard", path)


def _is_there(filesystem: FileSystem, directory: str, segment: Segment, findings: list[str]) -> bool:
    """Whether the file has its size; another one is put aside."""
    path = f"{directory}/{segment_name(segment.number)}"
    try:
        file = filesystem.open("segment.size", path)
        try:
            size = file.size("segment.size")
        finally:
            file.close()
    except DiskError as error:
        if error.errno != errno.ENOENT:
            return True  # perhaps it can be read later
        findings.append(str(error))
        return False
    if size == segment.size:
        return True
    findings.append(f"{path} has {size} bytes instead of {segment.size}; it is put aside")
    with contextlib.suppress(DiskError):
        filesystem.rename("segment.keep", path, path.removesuffix(SUFFIX) + KEPT)
    return False


def _add_pieces(logs: Logs, segment: Segment, body: bytes) -> None:
    for number, first, last, count, messages, weight, flags, index_offset, index_size in segment_parts(body):
        log = logs.open(number)
        piece = Piece(segment, first, last, count)
        piece.messages, piece.weight = messages, weight
        piece.index_offset, piece.index_size = index_offset, index_size
        log.flags |= flags
        log.pieces.append(piece)
        segment.count += count


def settle_transient(data_dir: DataDir, logs: Logs) -> None:
    """Settle what is in segments and need not outlive the node. Where a piece has both kinds, only the index says which these are."""
    for log in logs.logs.values():
        for piece in log.pieces:
            if piece.messages == 0:
                _settle(logs, log, piece.first, piece.last)
            elif piece.messages < piece.count:
                _settle_mixed(data_dir, logs, log, piece)


def _settle_mixed(data_dir: DataDir, logs: Logs, log: Log, piece: Piece) -> None:
    stretches: list[Stretch] | None = None
    for _ in range(ATTEMPTS_MAX):
        with contextlib.suppress(DiskError):  # what stays unreadable will be found by whoever reads the piece
            stretches = _read_index(data_dir, log, piece)
            break
    for stretch in stretches or ():
        if stretch.kind == TRANSIENT:
            _settle(logs, log, stretch.first, stretch.first + stretch.count - 1)


def _read_index(data_dir: DataDir, log: Log, piece: Piece) -> list[Stretch] | None:
    file = data_dir.filesystem.open("log.open", f"{data_dir.segments}/{segment_name(piece.segment.number)}")
    try:
        return read_stretches(file, index_place(piece), log.number, piece.first)
    finally:
        file.close()


def _settle(logs: Logs, log: Log, first: int, last: int) -> None:
    if log.positions.live_between(first, last + 1) > 0:
        log.positions.settle(first, last)
        logs.transient.append((log, int(first), int(last)))
