"""`python -m tests.spec.record [area or conversation ...]`: plays conversations against a real RabbitMQ and rewrites
the transcripts.

Every conversation is played twice, and only one that gives the same transcript both times is written. `--port N` takes
a RabbitMQ that runs already (it must have the settings of `SETTINGS`), `--show` prints the lines instead of writing
files, `--check` compares them with the files instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from tests.spec.conversations import AREAS, players
from tests.spec.talk import Conversation, load, play
from tests.support.rabbitmq import RabbitMQ, why_not

FOLDER: Final = Path(__file__).resolve().parent.parent / "transcripts"
SETTINGS: Final = ("max_message_size = 1048576",)
"""The settings, in the words of rabbitmq.conf, under which every transcript was taken."""
RECORDED_FROM: Final = "RabbitMQ 3.10.8 (Debian)"


def write(area: str, entries: list[dict[str, object]]) -> None:
    """Writes the transcripts of one area."""
    text = json.dumps(
        {"recorded_from": RECORDED_FROM, "settings": SETTINGS, "conversations": entries}, indent=1, ensure_ascii=True
    )
    (FOLDER / f"{area}.json").write_text(text + "\n")


def read(area: str) -> dict[str, dict[str, object]]:
    """The transcripts of one area by the conversation's name."""
    path = FOLDER / f"{area}.json"
    if not path.exists():
        return {}
    return {entry["name"]: entry for entry in json.loads(path.read_text())["conversations"]}


def entry_of(each: Conversation, lines: list[str]) -> dict[str, object]:
    """What stands in the file for one conversation."""
    entry: dict[str, object] = {"name": each.name, "rule": each.rule, "source": each.source, "lines": lines}
    if each.leveret is not None:
        entry["leveret"] = {"reason": each.leveret.reason, "says": each.leveret.says(lines)}
    return entry


def record(each: Conversation, host: str, port: int) -> tuple[list[str], str]:
    """The transcript, played twice; the second value says why it must not be written."""
    first, problem = play(each, host, port)
    if problem:
        return first, problem
    second, problem = play(each, host, port)
    if not problem and first != second:
        problem = "the second playing differs:\n" + "\n".join(second)
    return first, problem


def main() -> int:
    """Records; exit status 1 when a conversation could not be recorded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="areas or conversations; everything when none is given")
    parser.add_argument("--port", type=int, help="a RabbitMQ that runs already")
    parser.add_argument("--show", action="store_true", help="print, write nothing")
    parser.add_argument("--check", action="store_true", help="compare with the files, write nothing")
    options = parser.parse_args()
    if options.port is None and why_not():
        print(why_not())
        return 1
    failed = 0
    with nullcontext() if options.port else RabbitMQ(settings=SETTINGS) as node:
        port = options.port or (node.port if node else 0)
        for area in AREAS:
            failed += record_area(area, options.names, port, options.show, options.check)
    return 1 if failed else 0


def record_area(area: str, names: list[str], port: int, show: bool, check: bool) -> int:
    """Records (or checks) one area, or those of its conversations that are named; gives the number that could not be
    recorded."""
    conversations = load(area)
    known = read(area)
    failed = 0
    entries: list[dict[str, object]] = []
    wanted = [each for each in conversations if not names or area in names or each.name in names]
    if not wanted:
        return 0
    with ThreadPoolExecutor(players(area)) as pool:
        played = {each.name: pool.submit(record, each, "127.0.0.1", port) for each in wanted}
    for each in conversations:
        if each.name not in played:
            if each.name in known:
                entries.append(entry_of(each, list(map(str, known[each.name]["lines"]))))  # type: ignore[call-overload]
            continue
        lines, problem = played[each.name].result()
        if check and not problem and entry_of(each, lines) != known.get(each.name):
            problem = "this is not what the file says"
        if problem:
            failed += 1
            print(f"NOT RECORDED {each.name}: {problem}", *lines, sep="\n    ", flush=True)
            continue
        if show:
            print(f"{each.name}: {each.rule}", *lines, sep="\n    ", flush=True)
        entries.append(entry_of(each, lines))
    if not show:
        if not check:
            write(area, entries)
        print(f"{area}: {len(entries)} conversations, {failed} not recorded", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
