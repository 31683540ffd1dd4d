"""What was lost of the data, kept until an operator confirms that somebody knows: a file in the data directory, for the
health checks.

``DAMAGE`` holds a line of JSON for each loss: {"found": milliseconds since 1970, "what": text, "confirmed":
milliseconds or 0}. The same text is noted once: what stays on the disk is found again by every start. It is replaced as
a whole: written beside, synced, renamed, directory synced. A node works without it, and finds at the next start again
what it cannot write.
"""

import contextlib
import errno
import json
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from broker.clock import Clock
from broker.store.datadir import put_aside
from broker.store.disk_error import DiskError
from broker.store.filesystem import FileSystem
from broker.store.runner import Job, Runner

LOSSES_MAX: Final = 1000
"""So many are kept, the oldest of them."""

_NAME: Final = "DAMAGE"
_NEW: Final = "DAMAGE.new"


class Loss(NamedTuple):
    """Something that was lost."""

    found_ms: int
    """Milliseconds since 1970."""
    what: str
    confirmed_ms: int = 0
    """Likewise; 0: nobody has confirmed it."""


class Damage:
    """The losses of a data directory. On the owner's thread; the disk is touched by ``runner``, but for ``load`` and
    ``save``."""

    def __init__(self, filesystem: FileSystem, directory: str, clock: Clock, runner: Runner) -> None:
        self.losses: list[Loss] = []
        self.trouble: DiskError | None = None
        """Why they could not be written; until it works."""
        self._filesystem = filesystem
        self._directory = directory
        self._clock = clock
        self._runner = runner
        self._saving = False
        self._saved = True

    def load(self) -> None:
        """Read what earlier runs have noted. What cannot be read is a loss itself."""
        path = f"{self._directory}/{_NAME}"
        try:
            file = self._filesystem.open("damage.read", path)
            try:
                data = file.read("damage.read", 0, file.size("damage.read"))
            finally:
                file.close()
        except DiskError as error:
            if error.errno == errno.EISDIR:
                put_aside(self._filesystem, "damage.clean", path)
            if error.errno != errno.ENOENT:
                self.add([f"{path} cannot be read: what was lost before is not known"])
            return
        for line in data.split(b"\n"):
            if line:
                try:
                    found = json.loads(line)
                    self.losses.append(Loss(int(found["found"]), str(found["what"]), int(found["confirmed"])))
                except (ValueError, KeyError, TypeError):
                    self.add([f"{path} is damaged: some of what was lost before is not known"])

    def unconfirmed(self) -> list[Loss]:
        """What nobody has confirmed."""
        return [loss for loss in self.losses if not loss.confirmed_ms]

    def news(self, texts: Iterable[str]) -> list[str]:
        """Those of the texts that are not noted yet."""
        known = {loss.what for loss in self.losses}
        return [text for text in dict.fromkeys(texts) if text not in known]

    def add(self, texts: Iterable[str]) -> None:
        """Note losses, in memory; ``save`` or ``save_later`` writes them."""
        for what in self.news(texts):
            if len(self.losses) < LOSSES_MAX:
                self.losses.append(Loss(int(self._clock.wall_ms), what))
                self._saved = False

    def save(self) -> None:
        """Write them, if there is something new."""
        if not self._saved:
            self._saved = True
            try:
                self.write()
                self._written(None)
            except DiskError as error:
                self._written(error)

    def save_later(self) -> None:
        """The same, without waiting."""
        if not self._saved and not self._saving:
            self._saving = self._saved = True
            self._runner.submit(_Save(self, self._written))

    def _written(self, error: DiskError | None) -> None:
        """What was there when the writing began was written, or not."""
        self._saving = False
        self._saved = self._saved and error is None
        self.trouble = error

    def confirm(self, done: Callable[[DiskError | None], None]) -> int:
        """Somebody knows of all losses; how many there are. ``done`` is told when that is on the disk, or why it is
        not."""
        before = self.losses
        count = len(self.unconfirmed())
        self.losses = [
            loss if loss.confirmed_ms else loss._replace(confirmed_ms=max(1, int(self._clock.wall_ms)))
            for loss in before
        ]

        def told(error: DiskError | None) -> None:
            self._written(error)
            if error is not None:
                self.losses = before + self.losses[len(before) :]
            done(error)

        self._saving = self._saved = True
        self._runner.submit(_Save(self, told))
        return count

    def write(self) -> None:
        """Replace the file.

        Raises: DiskError
        """
        filesystem = self._filesystem
        fresh = f"{self._directory}/{_NEW}"
        lines = [
            json.dumps({"found": loss.found_ms, "what": loss.what, "confirmed": loss.confirmed_ms})
            for loss in self.losses
        ]
        with contextlib.suppress(DiskError):
            filesystem.unlink("damage.clean", fresh)
        file = filesystem.create("damage.create", fresh)
        try:
            file.write("damage.write", 0, ["".join(f"{line}\n" for line in lines).encode()])
            file.sync("damage.sync")
        finally:
            file.close()
        filesystem.rename("damage.rename", fresh, f"{self._directory}/{_NAME}")
        filesystem.sync_directory("damage.directory", self._directory)


class _Save(Job):
    def __init__(self, damage: Damage, told: Callable[[DiskError | None], None]) -> None:
        self._damage = damage
        self._told = told
        self._error: DiskError | None = None

    def run(self) -> None:
        try:
            self._damage.write()
        except DiskError as error:
            self._error = error

    def finished(self) -> None:
        self._told(self._error)
