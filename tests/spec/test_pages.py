"""Backlogs that need not outlive the node are in page files (broker/store/pages.py, page_files.py): written only where
memory is short, never synced, gone with the last message and at the next start, and lost to no error of the disk that
passes.
"""

from __future__ import annotations

import errno

import pytest

from broker.store.logs import UNWRITTEN_MAX
from broker.store.page_files import IDLE_MS, RETRY_MS
from broker.store.pages import Pages
from tests.support.durable import DATA_DIR, DurableBroker
from tests.support.faulty_disk import Fault, FaultyDisk
from tests.support.paging import Setting, is_empty, number
from tests.support.wire import publish

BACKLOG = 600
PAGES = f"{DATA_DIR}/pages"


def disk_of(broker: DurableBroker) -> FaultyDisk:
    assert isinstance(broker.disk, FaultyDisk)
    return broker.disk


def page_files(broker: DurableBroker) -> list[str]:
    return disk_of(broker).names("page.list", PAGES)


def page_files_after(broker: DurableBroker) -> list[str]:
    """Those that are left when nobody has written for a while: none is kept for another use then."""
    broker.advance(IDLE_MS)
    broker.advance(IDLE_MS)
    return page_files(broker)


def pages_of(broker: DurableBroker) -> Pages:
    return broker.store.logs.pages


def test_nothing_is_written_before_memory_is_short_and_nothing_goes_to_the_log() -> None:
    setting = Setting(durable=False)
    appended = setting.broker.store.logs.batch.next_sequence
    setting.publish(10, persistent=True)
    assert page_files(setting.broker) == []
    setting.publish(BACKLOG, persistent=True)
    assert len(page_files(setting.broker)) == 1
    assert setting.drain() == list(range(BACKLOG + 10))
    assert is_empty(setting)
    assert setting.broker.store.logs.batch.next_sequence == appended
    assert page_files_after(setting.broker) == [], "gone with the last message"
    assert not pages_of(setting.broker).files


def test_nothing_of_it_is_ever_synced() -> None:
    synced: list[str] = []
    disk = FaultyDisk()
    disk.observer = lambda disk, site: synced.append(site)
    setting = Setting(durable=False)
    setting.broker = DurableBroker(disk)
    setting.begin()
    setting.publish(BACKLOG)
    written = [site for site in synced if site.startswith("page.")]
    assert "page.write" in written
    assert {site for site in written if "sync" in site} == set()
    assert setting.drain() == list(range(BACKLOG))


@pytest.mark.parametrize("site", ["page.create", "page.write"])
@pytest.mark.parametrize("number_", [errno.ENOSPC, errno.EMFILE, errno.EIO])
def test_a_write_that_fails_is_tried_again(site: str, number_: int) -> None:
    """What was to be written stays in memory until it is."""
    setting = Setting(durable=False)
    disk_of(setting.broker).faults.append(Fault("error", site, arg=number_))
    setting.publish(BACKLOG)
    store = setting.broker.store
    assert store.page_trouble is not None
    assert store.short_of_space == (number_ != errno.EIO), "then publishers are blocked by the alarm of the disk"
    assert setting.broker.depth("q") == (BACKLOG, 0)
    setting.broker.advance(RETRY_MS)
    assert store.page_trouble is None
    assert not store.short_of_space
    assert setting.disk.count() > BACKLOG // 2
    assert setting.drain() == list(range(BACKLOG))
    assert is_empty(setting)


def test_what_is_consumed_while_it_cannot_be_written_comes_once() -> None:
    """The backlog goes on in memory; what was to be written is dead when it is."""
    setting = Setting(durable=False)
    disk_of(setting.broker).faults.extend(Fault("error", "page.write", arg=errno.ENOSPC) for _ in range(2))
    setting.publish(BACKLOG)
    assert setting.drain() == list(range(BACKLOG))
    setting.publish(20)
    setting.broker.advance(RETRY_MS)
    setting.broker.advance(RETRY_MS)
    assert setting.drain() == list(range(BACKLOG, BACKLOG + 20))
    assert is_empty(setting)
    assert page_files_after(setting.broker) == []
    assert pages_of(setting.broker).unwritten == 0


def test_what_was_taken_out_while_it_was_written_comes_once() -> None:
    """A purge and a deletion while blocks are on their way."""
    setting = Setting(durable=False)
    setting.broker.disk_is_stalled = True
    setting.publish(BACKLOG)
    assert pages_of(setting.broker).unwritten > 0
    assert setting.client.ask("queue.purge", queue="q")["message_count"] == BACKLOG
    setting.broker.disk_is_stalled = False
    setting.broker.run_turn()
    assert setting.drain() == []
    setting.publish(5)
    assert setting.drain() == list(range(BACKLOG, BACKLOG + 5))
    setting.broker.disk_is_stalled = True
    setting.publish(BACKLOG)
    setting.client.ask("queue.delete", queue="q")
    setting.broker.disk_is_stalled = False
    setting.broker.run_turn()
    assert pages_of(setting.broker).unwritten == 0
    assert page_files_after(setting.broker) == []


def test_publishers_wait_for_page_files_and_nobody_else_does() -> None:
    """RabbitMQ docs, Flow Control: as for the log, what waits to be written is bounded."""
    setting = Setting(durable=False)
    broker = setting.broker
    setup = broker.open()
    setup.ask("queue.declare", queue="other")
    publisher = broker.open()
    broker.disk_is_stalled = True
    sent = 0
    while not publisher.opened.input.in_flow:
        assert sent < 60, "nothing slows it down"
        publisher.publish("q", bytes(1 << 20))
        sent += 1
    assert UNWRITTEN_MAX < pages_of(broker).unwritten < UNWRITTEN_MAX + (3 << 20)
    setup.publish("other", b"m")
    assert setup.get("other", no_ack=True) is not None
    assert not setup.opened.input.in_flow
    broker.disk_is_stalled = False
    broker.run_turn()
    assert not publisher.opened.input.in_flow
    assert len(setup.drain("q")) == sent


def test_a_damaged_block_costs_what_is_in_it_and_is_told() -> None:
    setting = Setting(durable=False)
    setting.publish(BACKLOG)
    (name,) = page_files(setting.broker)
    assert setting.broker.store.logs.logs
    (piece, *_) = [piece for log in setting.broker.store.logs.logs.values() for piece in log.extents.segments]
    assert piece.extents is not None
    lost = range(int(piece.first), int(piece.last) + 1)
    disk_of(setting.broker).damage(f"{PAGES}/{name}", int(piece.extents[0].location.offset) + 100, b"\xff\x00\xff")
    assert setting.drain() == [each for each in range(BACKLOG) if each not in lost]
    assert [(first, last) for _, first, last, _ in setting.broker.store.logs.lost] == [(lost[0], lost[-1])]
    assert is_empty(setting)


@pytest.mark.parametrize("hurried", [False, True])
def test_what_the_system_has_in_its_memory_is_read_at_once(hurried: bool) -> None:
    """Without another thread; what there is no time for in a turn is read in the next one."""
    setting = Setting(durable=False)
    broker = setting.broker
    disk_of(broker).has_all_in_memory = True
    setting.publish(BACKLOG)
    broker.settled()
    reads = broker._runners[1]
    assert setting.disk.count() > BACKLOG // 2
    submitted: list[object] = []
    reads.submit = submitted.append  # type: ignore[method-assign,assignment]
    if hurried:
        broker.hurry()
    assert setting.drain() == list(range(BACKLOG))
    assert submitted == []
    broker.store.logs.settle()
    assert is_empty(setting)


def test_damage_in_the_memory_of_the_system_is_found_as_well() -> None:
    """And is read again from the disk before it is believed."""
    setting = Setting(durable=False)
    disk = disk_of(setting.broker)
    disk.has_all_in_memory = True
    setting.publish(BACKLOG)
    (name,) = page_files(setting.broker)
    (piece, *_) = [piece for log in setting.broker.store.logs.logs.values() for piece in log.extents.segments]
    assert piece.extents is not None
    lost = range(int(piece.first), int(piece.last) + 1)
    disk.damage(f"{PAGES}/{name}", int(piece.extents[0].location.offset) + 100, b"\xff\x00\xff")
    assert setting.drain() == [each for each in range(BACKLOG) if each not in lost]
    assert is_empty(setting)


def test_the_next_start_removes_what_is_left() -> None:
    """Whatever stands there: also what no node has written, and what cannot be removed."""
    setting = Setting(durable=False)
    setting.publish(BACKLOG)
    assert page_files(setting.broker)
    disk_of(setting.broker).create("page.create", f"{PAGES}/anything").close()
    disk_of(setting.broker).make_directory("datadir.create", f"{PAGES}/{page_files(setting.broker)[0]}x")
    setting.restart()
    setting.broker.run_turn()
    assert [name[-1] for name in page_files(setting.broker)] == ["x"]
    setting.publish(BACKLOG)
    assert setting.drain() == list(range(BACKLOG, 2 * BACKLOG))


@pytest.mark.parametrize("site", ["page.list", "page.remove"])
def test_what_cannot_be_removed_goes_at_the_start_after_that(site: str) -> None:
    setting = Setting(durable=False)
    setting.publish(BACKLOG)
    left = page_files(setting.broker)
    disk = disk_of(setting.broker).restarted()
    disk.faults.append(Fault("error", site, arg=errno.EIO))
    setting.broker = DurableBroker(disk)
    setting.begin()
    assert page_files(setting.broker) == left
    setting.publish(BACKLOG)
    assert setting.drain() == list(range(BACKLOG, 2 * BACKLOG))
    setting.restart()
    setting.broker.run_turn()
    assert page_files(setting.broker) == []


def test_a_file_that_cannot_be_removed_costs_nothing_else() -> None:
    setting = Setting(durable=False)
    setting.publish(BACKLOG)
    disk_of(setting.broker).faults.append(Fault("error", "page.remove", arg=errno.EIO))
    assert setting.drain() == list(range(BACKLOG))
    setting.publish(BACKLOG)
    assert setting.drain() == list(range(BACKLOG, 2 * BACKLOG))
    setting.broker.stopped()


def test_a_clean_end_removes_them() -> None:
    setting = Setting(durable=False)
    setting.publish(BACKLOG)
    assert page_files(setting.broker)
    disk = disk_of(setting.broker)
    setting.broker.stopped()
    assert disk.names("page.list", PAGES) == []


def test_a_deadline_goes_on_in_a_page_file() -> None:
    """RabbitMQ docs, Time-To-Live: it begins when the message comes, not when it is written."""
    setting = Setting(durable=False, x_message_ttl=10_000)
    setting.publish(BACKLOG // 2)
    setting.broker.advance(6_000)
    setting.publish(BACKLOG // 2)
    assert setting.disk.count() > BACKLOG // 2
    setting.broker.advance(4_001)
    assert setting.drain() == list(range(BACKLOG // 2, BACKLOG))
    setting.publish(BACKLOG)
    setting.broker.advance(10_001)
    assert setting.broker.depth("q") == (0, 0)
    assert is_empty(setting)


@pytest.mark.parametrize("keep", [7, 1])
def test_what_somebody_keeps_does_not_keep_whole_files(keep: int) -> None:
    """A consumer acknowledges all but one in a hundred, for ever: page files of which little is live are rewritten."""
    setting = Setting(durable=False)
    broker = setting.broker
    pages_of(broker).file_size = 1 << 18
    broker.store.compactor._options = broker.store.compactor._options._replace(garbage_size=1 << 18)
    reader = broker.open()
    kept: list[int] = []
    for _ in range(6):
        setting.publish(BACKLOG)
        while (said := reader.get("q")) is not None:
            if number(said.body) % 100 < keep:
                kept.append(number(said.body))
            else:
                reader.tell("basic.ack", delivery_tag=said.method["delivery_tag"])
    for _ in range(60):
        broker.advance(300)
    live = len(kept) * 4200
    held = sum(int(file.size) for file in pages_of(broker).files.values())
    assert held < live + (1 << 20), f"{held} bytes of page files for {live} bytes"
    reader.tell("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert setting.drain() == kept
    assert is_empty(setting)


def test_two_backlogs_share_a_file_and_either_may_go_first() -> None:
    setting = Setting(durable=False, x_max_priority=2)
    for _ in range(BACKLOG // 2):
        setting.client.send(
            *(
                publish(1, "", "q", b"%d %d" % (level, setting.serial), properties={"priority": level})
                for level in (0, 2)
            )
        )
        setting.serial += 1
        setting.client.send(publish(1, "", "q", b"1".ljust(4000, b"."), properties={"priority": 1}))
    assert setting.broker.depth("q") == (BACKLOG // 2 * 3, 0)
    bodies = setting.broker.open().drain("q")
    assert [body[:1] for body in bodies] == [b"2"] * (BACKLOG // 2) + [b"1"] * (BACKLOG // 2) + [b"0"] * (BACKLOG // 2)
    assert is_empty(setting)
    assert page_files_after(setting.broker) == []


def test_files_are_used_again_and_nothing_of_their_former_use_comes_back() -> None:
    """Two at the most are kept, for a while: what is in the system's memory already is written in a third of the
    time."""
    setting = Setting(durable=False)
    broker = setting.broker
    pages_of(broker).file_size = 1 << 19
    for round_ in range(4):
        setting.publish(BACKLOG)
        assert len(pages_of(broker).files) > 2
        assert not [name for name in page_files(broker) if name.endswith("spare")]
        assert setting.drain() == list(range(round_ * BACKLOG, (round_ + 1) * BACKLOG))
        broker.settled()
        assert [name[-5:] for name in page_files(broker)] == ["spare", "spare"]
    assert is_empty(setting)
    setting.publish(BACKLOG)
    broker.advance(2 * IDLE_MS)
    assert setting.drain() == list(range(4 * BACKLOG, 5 * BACKLOG))
    assert page_files_after(broker) == []


def test_a_file_that_cannot_be_used_again_is_made_anew() -> None:
    setting = Setting(durable=False)
    disk = disk_of(setting.broker)
    disk.faults.append(Fault("error", "page.reuse", arg=errno.EIO))
    setting.publish(BACKLOG)
    assert setting.drain() == list(range(BACKLOG))
    setting.publish(BACKLOG)
    assert setting.drain() == list(range(BACKLOG, 2 * BACKLOG))
    disk.faults.append(Fault("error", "page.reuse", arg=errno.EIO))
    setting.publish(BACKLOG)
    assert setting.drain() == list(range(2 * BACKLOG, 3 * BACKLOG))
    assert page_files_after(setting.broker) == []


@pytest.mark.parametrize("size", [8191, 300_000, 3 << 20])
def test_large_messages_come_back_as_they_were(size: int) -> None:
    """Among small ones: a block ends with a large one, whose content is not copied when it is read."""
    setting = Setting(durable=False)
    bodies = [b"%d " % index * (size // 4 if index % 5 == 3 else 1500) for index in range(40)]
    for body in bodies:
        setting.client.publish("q", body, properties={"message_id": "m"})
    assert setting.disk.count() > 5
    assert setting.broker.open().drain("q") == bodies
    assert is_empty(setting)
