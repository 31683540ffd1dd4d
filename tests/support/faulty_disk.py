"""A disk in memory that behaves as badly as disks may: what the store is tested on.

What it knows of every file is what the platter has (`durable`), what a program reads (`cache`) and the writes in
between (`pending`); of every directory the same. A crash may do to each pending write on its own, whatever their order:
keep it, lose it, tear it at sectors of 512 bytes, leave zeros. Pending changes of names are kept or lost, each on its
own. A sync that fails (`Fault`) drops the pending writes and says nothing about them ever again: programs read the new
bytes, later syncs succeed, the platter has the old ones.

    disk.crash_states(seed, n)   n disks as they may look after a power failure at this moment; the disk itself is not
                                 changed
    disk.restarted()             the same disk after the process was killed: the cache is still there, nothing new is
                                 durable
    disk.observer = f            f(disk, site) before every operation that changes something, and once more behind it
    disk.faults.append(...)      an error, a short write, an interrupted call or a crash, at a site or at the n-th
                                 operation
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from broker.store.filesystem import File, FileSystem

SECTOR = 512


class PowerLoss(BaseException):
    """The machine stops here. Not an Exception: nothing may catch it."""


@dataclass
class Fault:
    """What goes wrong once. It waits for its site ("" for any) and lets `skip` operations pass.

    Kinds: "crash" (before the operation), "crash after", "interrupted", "short" (a write takes only `arg` bytes),
    "error" (errno `arg`).
    """

    kind: str
    site: str = ""
    skip: int = 0
    arg: int = errno.EIO
    seen: bool = False


class Inode:
    """A file without its names."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.cache = bytearray()
        self.pending: list[tuple[int, bytes]] = []
        """Writes; an offset of -1 stands for a change of the length, packed into the bytes."""

    def copied(self) -> Inode:
        made = Inode()
        made.durable = bytearray(self.durable)
        made.cache = bytearray(self.cache)
        made.pending = list(self.pending)
        return made

    def write(self, offset: int, data: bytes) -> None:
        put(self.cache, offset, data)
        self.pending.append((offset, data))

    def resize(self, size: int) -> None:
        change = size.to_bytes(8, "big")
        put(self.cache, -1, change)
        self.pending.append((-1, change))

    def settle(self) -> None:
        for offset, data in self.pending:
            put(self.durable, offset, data)
        self.pending.clear()

    def crashed(self, chance: random.Random) -> Inode:
        made = Inode()
        made.durable = bytearray(self.durable)
        fate = chance.choice(("lose", "keep", "each", "each", "each"))
        for offset, data in self.pending:
            survive(
                made.durable,
                offset,
                data,
                fate if fate != "each" else chance.choice(("lose", "keep", "tear", "tear", "zero")),
                chance,
            )
        made.cache = bytearray(made.durable)
        return made


def put(content: bytearray, offset: int, data: bytes) -> None:
    """Apply one pending change."""
    if offset < 0:
        size = int.from_bytes(data, "big")
        del content[size:]
        content.extend(bytes(size - len(content)))
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def survive(content: bytearray, offset: int, data: bytes, fate: str, chance: random.Random) -> None:
    """Apply what a crash leaves of one pending change."""
    if fate == "lose":
        return
    if offset < 0 or fate == "keep":
        put(content, offset, data)
        return
    if fate == "zero":
        put(content, offset, bytes(len(data)))
        return
    start = offset
    end = offset + len(data)
    odds = chance.choice((0.1, 0.5, 0.9))
    prefix = chance.random() < 0.4  # as often as not a write that was cut short, otherwise any sectors in any order
    while start < end:
        stop = min(end, start // SECTOR * SECTOR + SECTOR)
        kept = chance.random() < odds
        if kept:
            put(content, start, data[start - offset : stop - offset])
        elif prefix:
            return
        start = stop


@dataclass
class Directory:
    """Names; `pending` changes are (name that goes, name that comes, what it names)."""

    durable: dict[str, Inode | Directory] = field(default_factory=dict)
    cache: dict[str, Inode | Directory] = field(default_factory=dict)
    pending: list[tuple[str, str, Inode | Directory]] = field(default_factory=list)

    def change(self, goes: str, comes: str, node: Inode | Directory) -> None:
        rename(self.cache, goes, comes, node)
        self.pending.append((goes, comes, node))


def rename(entries: dict[str, Inode | Directory], goes: str, comes: str, node: Inode | Directory) -> None:
    """Apply one change of names; whole or not at all."""
    if goes and (goes != comes) and entries.get(goes) is node:
        del entries[goes]
    if comes:
        entries[comes] = node


class FaultyFile(File):
    """An open file of a `FaultyDisk`."""

    def __init__(self, disk: FaultyDisk, path: str, inode: Inode) -> None:
        super().__init__(path)
        self.disk = disk
        self.inode = inode

    def close(self) -> None:
        self.disk.locks.discard(self)

    def do_read(self, site: str, offset: int, size: int) -> bytes:
        self.disk.operation(site, self.path, changes=False)
        return bytes(self.inode.cache[offset : offset + size])

    def do_read_cached(self, site: str, offset: int, size: int) -> bytes | None:
        return self.do_read(site, offset, size) if self.disk.has_all_in_memory else None

    def do_write(self, site: str, offset: int, pieces: Sequence[bytes | memoryview]) -> int:
        data = b"".join(pieces)
        limit = self.disk.operation(site, self.path)
        if limit is not None:
            data = data[:limit]
        grown = max(0, offset + len(data) - len(self.inode.cache))
        if grown > self.disk.free:
            data = data[: max(0, len(data) - grown + self.disk.free)]
            if not data:
                raise OSError(errno.ENOSPC, "No space left on device")
            grown = self.disk.free
        self.disk.free -= grown
        self.inode.write(offset, data)
        self.disk.done(site)
        return len(data)

    def do_sync(self, site: str) -> None:
        if site in self.disk.forgotten:
            return
        try:
            self.disk.operation(site, self.path)
        except InterruptedError:
            raise
        except OSError:
            self.inode.pending.clear()  # the pages count as clean now; the platter never saw them
            raise
        self.inode.settle()
        self.disk.done(site)

    def do_allocate(self, site: str, size: int) -> None:
        self.disk.operation(site, self.path)
        grown = max(0, size - len(self.inode.cache))
        if grown > self.disk.free:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.disk.free -= grown
        if grown:
            self.inode.resize(size)
        self.disk.done(site)

    def do_truncate(self, site: str, size: int) -> None:
        self.disk.operation(site, self.path)
        self.disk.free += len(self.inode.cache) - size
        self.inode.resize(size)
        self.disk.done(site)

    def do_size(self, site: str) -> int:
        return len(self.inode.cache)


class FaultyDisk(FileSystem):
    """The disk. Paths are "/name/name"."""

    def __init__(self, free: int = 1 << 40) -> None:
        self.root = Directory()
        self.free = free
        self.locks: set[FaultyFile] = set()
        self.faults: list[Fault] = []
        self.forgotten: frozenset[str] = frozenset()
        """Sites whose syncs do nothing: a program in which the call is missing. Disks made of this one forget the
        same."""
        self.observer: Callable[[FaultyDisk, str], None] | None = None
        self.operations = 0
        """How many were asked for, reads and failed ones included."""
        self.sites: list[str] = []
        """Their sites, in order."""
        self.has_all_in_memory = False
        """`read_cached` finds what it is asked for; otherwise nothing."""

    # Time

    def operation(self, site: str, path: str, changes: bool = True) -> int | None:
        """Called before every operation: faults strike here. A limit for a short write."""
        self.operations += 1
        self.sites.append(site)
        if changes and self.observer is not None:
            self.observer(self, site)
        for fault in self.faults:
            if fault.seen or fault.site not in ("", site):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.seen = True
            if fault.kind == "crash":
                raise PowerLoss(site)
            if fault.kind == "interrupted":
                raise InterruptedError(errno.EINTR, "Interrupted system call")
            if fault.kind == "error":
                raise OSError(fault.arg, errno.errorcode[fault.arg], path)
            if fault.kind == "short":
                return fault.arg
            assert fault.kind == "crash after", fault.kind
            fault.kind, fault.seen = "crashing", True
        return None

    def done(self, site: str) -> None:
        """Called after every operation that has changed something."""
        for fault in self.faults:
            if fault.kind == "crashing":
                fault.kind = "crash after"
                raise PowerLoss(site)
        if self.observer is not None:
            self.observer(self, site)

    def crash_states(self, seed: int, count: int) -> Iterator[FaultyDisk]:
        """Disks as they may look after a power failure now."""
        for number in range(count):
            chance = random.Random(f"{seed} {number}")
            made = FaultyDisk(self.free)
            made.forgotten = self.forgotten
            made.root = crashed(self.root, chance, {})
            yield made

    def restarted(self) -> FaultyDisk:
        """The disk that the next process finds after this one was killed: what was written is there, and still not
        durable."""
        made = FaultyDisk(self.free)
        made.forgotten = self.forgotten
        made.root = copied(self.root, {})
        return made

    # Names

    def directory(self, path: str) -> Directory:
        node: Inode | Directory | None = self.root
        for name in filter(None, path.split("/")):
            node = node.cache.get(name) if isinstance(node, Directory) else None
        if not isinstance(node, Directory):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return node

    def split(self, path: str) -> tuple[Directory, str]:
        above, _, name = path.rpartition("/")
        return self.directory(above), name

    def inode(self, path: str) -> Inode:
        above, name = self.split(path)
        node = above.cache.get(name)
        if isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return node

    def do_open(self, site: str, path: str) -> File:
        self.operation(site, path, changes=False)
        return FaultyFile(self, path, self.inode(path))

    def do_create(self, site: str, path: str) -> File:
        self.operation(site, path)
        above, name = self.split(path)
        if name in above.cache:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        made = Inode()
        above.change("", name, made)
        self.done(site)
        return FaultyFile(self, path, made)

    def do_try_lock(self, site: str, path: str) -> File | None:
        above, name = self.split(path)
        self.operation(site, path)
        node = above.cache.get(name)
        if node is None:
            node = Inode()
            above.change("", name, node)
        if isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", path)
        if any(lock.inode is node for lock in self.locks):
            return None
        lock = FaultyFile(self, path, node)
        self.locks.add(lock)
        return lock

    def do_make_directory(self, site: str, path: str) -> None:
        self.operation(site, path)
        above, name = self.split(path)
        if name in above.cache:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        above.change("", name, Directory())
        self.done(site)

    def do_rename(self, site: str, old: str, new: str) -> None:
        self.operation(site, old)
        above, name = self.split(old)
        other, new_name = self.split(new)
        assert above is other, "the store renames within one directory only"
        node = above.cache.get(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", old)
        if isinstance(other.cache.get(new_name), Directory) and isinstance(node, Inode):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", new)
        above.change(name, new_name, node)
        self.done(site)

    def do_unlink(self, site: str, path: str) -> None:
        self.operation(site, path)
        above, name = self.split(path)
        inode = self.inode(path)
        above.change(name, "", inode)
        self.free += len(inode.cache)
        self.done(site)

    def do_sync_directory(self, site: str, path: str) -> None:
        if site in self.forgotten:
            return
        self.operation(site, path)
        found = self.directory(path)
        for goes, comes, node in found.pending:
            rename(found.durable, goes, comes, node)
        found.pending.clear()
        self.done(site)

    def do_keep_open(self, site: str, path: str) -> None:
        self.operation(site, path, changes=False)
        self.directory(path)

    def do_names(self, site: str, path: str) -> list[str]:
        self.operation(site, path, changes=False)
        return list(self.directory(path).cache)

    def do_free_bytes(self, site: str, path: str) -> int:
        self.operation(site, path, changes=False)
        return self.free

    # For tests that look at bytes

    def content(self, path: str) -> bytearray:
        """The bytes of a file, for reading and for damaging; a change is durable at once if it is made to both."""
        return self.inode(path).cache

    def make_inode(self, path: str) -> None:
        """An empty file that is simply there, if it was not."""
        above, name = self.split(path)
        made = above.cache.setdefault(name, Inode())
        above.durable.setdefault(name, made)

    def damage(self, path: str, offset: int, data: bytes) -> None:
        """Bit rot: what is read, from now on and for ever."""
        inode = self.inode(path)
        put(inode.cache, offset, data)
        put(inode.durable, offset, data)


Copies = dict[int, "Inode | Directory"]


def copied(node: Directory, known: Copies) -> Directory:
    """A deep copy in which a node with several names stays one."""
    made = Directory()
    made.durable = {name: copy_of(child, known) for name, child in node.durable.items()}
    made.cache = {name: copy_of(child, known) for name, child in node.cache.items()}
    made.pending = [(goes, comes, copy_of(child, known)) for goes, comes, child in node.pending]
    return made


def copy_of(node: Inode | Directory, known: Copies) -> Inode | Directory:
    found = known.get(id(node))
    if found is None:
        found = known[id(node)] = node.copied() if isinstance(node, Inode) else copied(node, known)
    return found


def crashed(node: Directory, chance: random.Random, known: Copies) -> Directory:
    """What a power failure leaves of a directory and all below it."""
    names = dict(node.durable)
    odds = chance.choice((0.0, 0.5, 1.0))
    for goes, comes, child in node.pending:
        if chance.random() < odds:
            rename(names, goes, comes, child)
    made = Directory()
    for name, child in names.items():
        found = known.get(id(child))
        if found is None:
            found = known[id(child)] = (
                child.crashed(chance) if isinstance(child, Inode) else crashed(child, chance, known)
            )
        made.durable[name] = found
    made.cache = dict(made.durable)
    return made
