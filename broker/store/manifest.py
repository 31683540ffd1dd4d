"""What the write-ahead log no longer tells: which segments there are, what is live in them, what is declared. A log of
edits, in two files.

    <number, 16 hex digits>.a.manifest    complete up to its last edit; the greatest number counts
    <number, 16 hex digits>.b.manifest    the same batches, under a salt and checksums of its own
    <number, 16 hex digits>.a.tmp         (or .b.tmp) one that was never finished
    <number, 16 hex digits>.manifest      the only file of a manifest of format 1: read, and replaced by two

The first batches of a file are the whole state when it was made, none larger than 16 KiB; each that follows is an edit,
which counts as a whole or not at all (manifest_records.py). The state of the node is the manifest, then all records of
the write-ahead log behind number S. What the state of a log says may be newer than S: the records in between are
replayed again, which changes nothing.

**Two files.** A batch counts when it can be read in either of them, found by the number of its first record. So no
damage to one file loses anything: it is told, and a fresh pair of files is made. An edit is written to a and synced,
then written to b and synced; only then it counts for the caller. It is written when everything it says is durable
elsewhere, so one that is torn in both, or has come to a alone, was never relied on: the first is cut, the second one is
whole and counts. What b has and a has not is damage to a.

Only the last edit may be one that no sync has covered. It is written again at the start, to both, behind itself, and
counts once. After an error nothing is added to a file; the next edit makes new ones, and so does one that finds them
too large. New ones are written and synced before the first of them gets its name: either name alone is the whole
manifest. The space for edits is taken ahead: what needs no new space on the disk, such as giving back files of the
write-ahead log, works when the disk is full.

Where a batch is missing in both files, ``damaged`` says so; what is left is not written anew before somebody has put
together what is missing (manifest_recovery.py), by ``replace``.
"""

import contextlib
import errno
from collections.abc import Callable
from typing import Final

from broker.store.batch import HEADER_SIZE, Batch, records, whole_size
from broker.store.batch_writer import UNDIVIDED, BatchWriter
from broker.store.datadir import DataDir, put_aside
from broker.store.disk_error import DiskError
from broker.store.manifest_file import (
    COPIES,
    SUFFIX,
    UNFINISHED,
    ManifestFile,
    make_file,
    manifest_name,
    open_file,
    parse_name,
)
from broker.store.manifest_records import COVERS, Edit, ManifestState, edit_records
from broker.store.quarantine import keep_copy
from broker.store.wal_file import START, BadRange, FileHeader, Found, LenientReader

SIZE_MIN: Final = 4 << 20
"""A manifest is not replaced before its files have this size, and twice that of new ones."""

_COVERS_SIZE: Final = 64
"""Bytes of an edit besides what it is about, at most."""
_DAMAGE: Final = (errno.EIO, errno.EISDIR)
"""Why a file cannot be opened that will not be better next time."""


class ManifestLostError(DiskError):
    """Both files are damaged in one place: what they said there nobody knows but the node that runs."""


class Manifest:
    """The manifest of a data directory. ``recover`` at the start, then ``append``, one call at a time."""

    def __init__(self, data_dir: DataDir, new_salt: Callable[[], int], size_min: int = SIZE_MIN) -> None:
        self.exists = False
        """Its name is on the disk. So it is before the first segment, and before the first file leaves the write-ahead
        log."""
        self.findings: list[str] = []
        """What recovery has found lost, for people."""
        self.repaired: list[str] = []
        """What recovery has found wrong with one file and whole in the other, for people."""
        self.cut: list[str] = []
        """Edits that nobody has relied on, as far as anyone can tell; for people."""
        self.damaged = False
        """Edits are missing: segments that nothing refers to may hold something."""
        self._filesystem = data_dir.filesystem
        self._directory = data_dir.manifest
        self._quarantine = data_dir.quarantine
        self._new_salt = new_salt
        self._size_min = size_min
        self._room = size_min // 4
        """Space taken ahead."""
        self._number = 0
        """Of the newest files, or of some that were begun."""
        self._files: list[ManifestFile] = []
        """Those that count: two of them unless something is wrong."""
        self._targets: list[ManifestFile] = []
        """Those to which edits may be added."""
        self._whole = False
        """Nothing is wrong with them."""
        self._next_sequence = 1
        self._fresh_size = 0
        self._stale: set[str] = set()
        """Names of files that go when the next ones are durable."""

    # The start

    def recover(self) -> ManifestState:
        """What the manifest says; durable from now on, unless it is ``damaged``.

        Raises: DiskError
        """
        names = self._filesystem.names("manifest.list", self._directory)
        self._filesystem.sync_directory("manifest.start.directory", self._directory)
        known = {name: parsed for name in names if (parsed := parse_name(name)) is not None}
        self._number = max((number for number, _, _ in known.values()), default=0)
        self._stale = set(names)
        state = ManifestState()
        for number in sorted({number for number, _, suffix in known.values() if suffix == SUFFIX}, reverse=True):
            self._open(number, known)
            if self._files:
                self.exists = True
                self._stale -= {manifest_name(number, file.copy) for file in self._files}
                state = self._judge(number)
                break
            self.damaged = True
            self.findings.append(
                f"{self._directory}/{number:016x}: no file of this manifest can be read: its edits are lost"
            )
        self._remove_stale(self._whole)
        return state

    def _open(self, number: int, known: dict[str, tuple[int, str, str]]) -> None:
        """Open and read the files of this number."""
        failed: DiskError | None = None
        for name in [name for name, (found, _, suffix) in known.items() if found == number and suffix == SUFFIX]:
            path = f"{self._directory}/{name}"
            try:
                file = open_file(self._filesystem, path, number, known[name][1])
            except DiskError as error:
                if error.errno not in _DAMAGE:
                    raise
                self.repaired.append(str(error))
                if error.errno == errno.EISDIR:
                    put_aside(self._filesystem, "manifest.discard", path)
                else:
                    failed = error
                continue
            if file is not None:
                self._files.append(file)
            else:
                self.repaired.append(f"{path}: it has no header that can be read")
                self._keep_file(path, number)
        if failed is not None and not self._files:
            raise failed

    def _judge(self, number: int) -> ManifestState:
        """What the files of this number say together, what is wrong with each, and that the last edit is durable."""
        found, missing = unite(self._files)
        state, edits = _folded(found)
        last = found[-1] if found else None
        self._fresh_size = state.size()
        self._next_sequence = last.header.first_sequence + last.header.record_count if last is not None else 1
        place = f"{self._directory}/{number:016x}"
        self.findings += [
            f"{place}: records {low} to {high} of the manifest are lost: no file has them" for low, high in missing
        ]
        if edits == 0:
            # The state at the beginning was written as a whole before the files got their names.
            self.findings.append(f"{place}: the state at the beginning of the manifest is lost")
        self.damaged = self.damaged or bool(missing) or edits == 0
        whole = [self._examine(file, found, edits > 1) for file in self._files]
        self._whole = all(whole) and len(self._files) == len(COPIES) and not self.damaged
        if len(self._files) < len(COPIES) and self._files[0].copy and not self.repaired:
            begun = edits == 1 and (number == 1 or len(self._stale) > 0)
            if not begun:  # otherwise it was interrupted before the other file got its name
                self.repaired.append(f"{place}: one of its two files is gone")
        if not self.damaged:
            self._settle(state, last if edits > 1 else None)
        for file in self._files:
            file.batches = {}
        return state

    def _examine(self, file: ManifestFile, found: list[Found], ends_in_edit: bool) -> bool:
        """Whether a file has everything that the others have, but perhaps for an edit that did not come so far.

        The state at the beginning was written as a whole before the file got its name.
        """
        missing = [each.header.first_sequence for each in found if each.header.first_sequence not in file.batches]
        interrupted = ends_in_edit and file.copy == COPIES[1] and missing == [found[-1].header.first_sequence]
        if not missing:
            for each in file.unfinished:
                self.cut.append(f"{file.path}: {each.size} bytes at {each.offset} are an edit that was never finished")
        elif not interrupted:
            self.repaired.append(f"{file.path}: {len(missing)} batches of it are damaged or missing")
        elif file.bad != file.unfinished:
            self.repaired.append(f"{file.path}: some of it is damaged")
        if file.unreadable:
            self.repaired.append(f"{file.path}: some of it cannot be read")
        if not interrupted:  # of that edit the other file has everything
            for each in file.bad if missing else file.unfinished:
                self._keep(file, each)
        return not file.unreadable and (not missing or interrupted)

    def _settle(self, state: ManifestState, last: Found | None) -> None:
        """Make new files where something is wrong with these; otherwise make the last edit durable in them.

        Another sync would say nothing: after an error the system shows pages that the disk does not have.
        """
        if not self._whole:
            with contextlib.suppress(DiskError):  # the next edit tries it again
                self._publish(state)
                return
        targets = [file for file in self._files if not file.unreadable]
        if last is not None:
            header = last.header
            payload = last.data[HEADER_SIZE : HEADER_SIZE + header.payload_size]
            for file in list(targets):
                try:
                    file.write_again(
                        Batch([payload], header.first_sequence, header.record_count, header.payload_size), self._room
                    )
                except DiskError as error:
                    if not error.is_full or header.first_sequence in file.batches:
                        raise
                    targets.remove(file)
        self._targets = targets

    def _remove_stale(self, files_too: bool) -> None:
        """Remove what was never finished, and the files before those that count."""
        for name in sorted(self._stale):
            if files_too or not name.endswith(SUFFIX):
                with contextlib.suppress(DiskError):
                    self._filesystem.unlink("manifest.discard", f"{self._directory}/{name}")
                self._stale.discard(name)

    def _keep(self, file: ManifestFile, bad: BadRange) -> None:
        keep_copy(
            self._filesystem,
            self._quarantine,
            f"manifest-{file.header.generation:x}{file.copy}-{bad.offset:x}",
            file.bytes_at(bad),
        )

    def _keep_file(self, path: str, number: int) -> None:
        """A copy of a file without a header."""
        with contextlib.suppress(DiskError):
            file = self._filesystem.open("manifest.open", path)
            try:
                data = LenientReader(file, "manifest.read").read(0, file.size("manifest.read"))
            finally:
                file.close()
            if data:
                keep_copy(self._filesystem, self._quarantine, f"manifest-{number:x}-0", data)

    # Edits

    def append(self, edit: Edit) -> None:
        """Make an edit durable. After an error it is not known whether it is: the caller tries the same again, later.

        Raises: DiskError; ManifestLostError if that does not help: the caller has to ``replace`` it
        """
        full_size = max(self._size_min, 2 * self._fresh_size)
        if self._whole and self._targets and self._targets[0].end <= full_size:
            self._add(edit)
            return
        state = self._with(edit)
        try:
            self._publish(state)
        except DiskError as error:
            if not error.is_full or not self._targets:
                raise
            self._add(edit)
        finally:
            state.let_go()

    def has_space(self, size: int) -> bool:
        """Whether an edit of so many bytes leaves space for others, which is taken if need be. Where new files are
        needed nobody knows."""
        try:
            for file in self._targets:
                file.reserve(int(whole_size(size + _COVERS_SIZE)), self._room, self._room)
        except DiskError:
            return False
        return True

    def replace(self, state: ManifestState) -> None:
        """Say this from now on, whatever was said before. After an error the caller tries the same again, later.

        Raises: DiskError
        """
        self._publish(state)
        self.damaged = False

    def _add(self, edit: Edit) -> None:
        targets = self._targets
        writer = BatchWriter(self._next_sequence, UNDIVIDED)
        for number, kind, body in edit_records(edit):
            writer.append(number, kind, body)
        batch = writer.take_batch()
        for file in targets:
            file.reserve(int(batch.size()), 0, self._room)
        self._targets = []
        for file in targets:
            file.add(batch)
        self._targets = targets
        self._next_sequence = int(batch.through()) + 1
        for file in targets:
            with contextlib.suppress(DiskError):
                file.reserve(0, self._room, self._room)

    def _with(self, edit: Edit) -> ManifestState:
        """What the files say, and the edit.

        Raises: DiskError; ManifestLostError if something is missing in both files by now
        """
        state = ManifestState()
        if self._files:
            for file in self._files:
                file.read()
            found, missing = unite(self._files)
            for file in self._files:
                file.batches = {}
            state, _ = _folded(found)
            reached = found[-1].header.first_sequence + found[-1].header.record_count if found else 1
            if missing or reached < self._next_sequence:
                raise ManifestLostError(
                    errno.EIO, "both files of the manifest are damaged in one place", self._directory, "manifest.read"
                )
        for number, kind, body in edit_records(edit):
            state.apply(number, kind, body)
        return state

    def _publish(self, state: ManifestState) -> None:
        """Two new files that say this; then the old ones go."""
        self._number += 1
        number, filesystem = self._number, self._filesystem
        unfinished = [f"{self._directory}/{manifest_name(number, copy, UNFINISHED)}" for copy in COPIES]
        size = START + state.size() + self._room
        made: list[ManifestFile] = []
        next_sequence = 1
        try:
            for copy, path in zip(COPIES, unfinished, strict=True):
                header = FileHeader(number, self._new_salt(), 1)
                file, next_sequence = make_file(filesystem, path, copy, header, size, state.batches())
                made.append(file)
        except DiskError:
            self._give_up(made, unfinished)
            raise
        # From here on either may be what the next start finds, and both say the same of the past: no edit goes to the
        # old ones.
        self._targets = []
        try:
            filesystem.rename("manifest.publish", unfinished[0], self._path(number, COPIES[0]))
        except DiskError:
            self._give_up(made, unfinished)
            raise
        self._stale |= {manifest_name(file.header.generation, file.copy) for file in self._files}
        self._close_files()
        self._files, self._next_sequence, self._fresh_size = made, next_sequence, made[0].end
        self._whole = True
        try:
            filesystem.rename("manifest.publish", unfinished[1], self._path(number, COPIES[1]))
        except DiskError:
            self._stale.add(manifest_name(number, COPIES[1], UNFINISHED))
            raise
        filesystem.sync_directory("manifest.publish.directory", self._directory)
        for file in made:
            file.path = self._path(number, file.copy)
        self._targets = made
        self.exists = True
        stale, self._stale = self._stale, set()
        for name in sorted(stale):
            with contextlib.suppress(DiskError):
                filesystem.unlink("manifest.remove", f"{self._directory}/{name}")

    def _give_up(self, made: list[ManifestFile], unfinished: list[str]) -> None:
        for file in made:
            file.close()
        for path in unfinished:
            with contextlib.suppress(DiskError):
                self._filesystem.unlink("manifest.discard", path)

    def _close_files(self) -> None:
        for file in self._files:
            file.close()
        self._files = []

    def close(self) -> None:
        """Close the files."""
        self._close_files()
        self._targets = []

    def _path(self, number: int, copy: str) -> str:
        return f"{self._directory}/{manifest_name(number, copy)}"


def unite(files: list[ManifestFile]) -> tuple[list[Found], list[tuple[int, int]]]:
    """The batches of all files, each once and in order; and the numbers (first, last) that are missing between them."""
    batches: dict[int, Found] = {}
    for file in files:
        for sequence, found in file.batches.items():
            batches.setdefault(sequence, found)
    expected = 1
    ordered: list[Found] = []
    missing: list[tuple[int, int]] = []
    for sequence in sorted(batches):
        if sequence < expected:
            continue  # nothing writes batches that overlap
        if sequence > expected:
            missing.append((expected, sequence - 1))
        ordered.append(batches[sequence])
        expected = sequence + batches[sequence].header.record_count
    return ordered, missing


def _folded(found: list[Found]) -> tuple[ManifestState, int]:
    """What these batches say, and how many edits they are, the state at the beginning included."""
    state = ManifestState()
    edits = 0
    for each in found:
        for _, number, kind, body in records(each.header, each.data):
            state.apply(number, kind, body)
            edits += kind == COVERS
    return state, edits
