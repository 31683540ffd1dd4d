"""broker/store/data_files.py: where the files are, and that a read keeps what it needs."""

from __future__ import annotations

from broker.store.data_files import DataFiles, name_of
from broker.store.segment_extent import Segment
from broker.store.wal_file import file_name
from tests.support.faulty_disk import FaultyDisk


def made() -> DataFiles:
    return DataFiles(FaultyDisk(), "/wal", "/segments", "/pages")


def test_a_page_file_has_the_number_of_a_segment_and_a_place_of_its_own() -> None:
    files = made()
    segment, page = Segment(26, 4096), Segment(26, 4096)
    page.on_pages = True
    assert files.path_of(segment) == "/segments/000000000000001a.seg"
    assert files.path_of(page) == "/pages/000000000000001a.page"
    assert files.wal_path(file_name(26)) == f"/wal/{file_name(26)}"


def test_a_file_is_in_use_until_the_last_read_has_released_it() -> None:
    files = made()
    name = name_of(Segment(1, 4096))
    files.use([name, file_name(1)])
    files.use([name])
    files.release([name, file_name(1)])
    assert files.in_use(name)
    assert not files.in_use(file_name(1))
    files.release([name])
    assert not files.in_use(name)
