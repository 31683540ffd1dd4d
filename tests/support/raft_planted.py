"""Mistakes planted into the Raft core: the recorded streams of etcd/raft must find each.

    PYTHONPATH=. python -m tests.support.raft_planted [NAME ...]

prints, for each mistake, the recording and the event at which the core differs from etcd/raft. A mistake is a piece of
a module of broker/raft and what is put in its place, in a copy of the package that is not compiled. The streams that
are recorded were chosen so that each mistake is found by one of them.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

CHECKOUT: Final = Path(__file__).resolve().parents[2]


class Mistake(NamedTuple):
    """One of them."""

    module: str
    right: str
    wrong: str


PLANTED: Final = {
    "an entry of an earlier term is counted": Mistake(
        "raft", "index > self.log.committed and self.log.matches(index, self.term)", "index > self.log.committed"
    ),
    "two votes in a term": Mistake("election", "        raft.vote = message.sender\n", ""),
    "a vote for a log that is behind": Mistake(
        "election", " and raft.log.is_up_to_date(message.index, message.log_term)", ""
    ),
    "a vote for the longer log": Mistake(
        "raft_log",
        "return term > ours or (term == ours and index >= self.last_index())",
        "return index >= self.last_index()",
    ),
    "a vote is kept in the next term": Mistake(
        "raft", "            self.vote = NOBODY\n        self.lead", "        self.lead"
    ),
    "half of the votes is enough": Mistake(
        "tracker", "quorum = len(voters) // 2 + 1", "quorum = (len(voters) + 1) // 2"
    ),
    "a vote is forgotten in a crash": Mistake("raft", "self.vote: i64 = hard_state.vote", "self.vote: i64 = NOBODY"),
    "what is committed is forgotten in a crash": Mistake("raft", "commit = hard_state.commit", "commit = 0"),
    "an old append deletes": Mistake("raft_log", "if not self.matches(entry.index, entry.term):", "if True:"),
    "what stands behind an append is committed": Mistake(
        "follower", "min(message.commit, answer.index)", "min(message.commit, log.last_index())"
    ),
    "a heartbeat commits what a member may not have": Mistake(
        "replication", "message.commit = min(progress.match, raft.log.committed)", "message.commit = raft.log.committed"
    ),
    "our own copy counts before it is saved": Mistake(
        "raw_node", "own_entries_saved(raft, ready.last_index)", "own_entries_saved(raft, raft.log.last_index())"
    ),
    "learners count for commits": Mistake(
        "tracker", "[progress[voter].match for voter in voters]", "[each.match for each in progress.values()]"
    ),
    "learners stand for election": Mistake(
        "raft", "return self.tracker.is_voter(self.id) and", "return self.id in self.tracker.progress and"
    ),
    "too few are a quorum that is heard of": Mistake(
        "tracker",
        "return active > len(self.configuration.voters) // 2",
        "return active >= len(self.configuration.voters) // 2",
    ),
    "who was heard of once is heard of": Mistake(
        "tracker", "                progress.recent_active = False\n", "                pass\n"
    ),
    "a newcomer has not been heard of": Mistake("tracker", "                progress.recent_active = True\n", ""),
    "no lease": Mistake("step", "if in_lease and not message.is_transfer:", "if False:"),
    "a pre-vote changes the term": Mistake(
        "step",
        "if kind == PRE_VOTE or (kind == PRE_VOTE_RESPONSE and not message.reject):",
        "if kind == PRE_VOTE_RESPONSE and not message.reject:",
    ),
    "nobody tells a leader of a term that has passed": Mistake(
        "step",
        "and (raft.options.check_quorum or raft.options.pre_vote or raft.repair_to > 0):",
        "and False:",
    ),
    "a read that one member confirms": Mistake(
        "leader", "reads.confirm(raft.tracker.configuration.voters)", "reads.confirm([message.sender])"
    ),
    "a read before it is known what is committed": Mistake(
        "leader", "    if raft.has_committed_in_term():\n        _ask", "    if True:\n        _ask"
    ),
    "reads outlive the term": Mistake("raft", "        self.reads = None\n\n    def _draw", "\n    def _draw"),
    "two changes at once": Mistake("membership", "if raft.pending_conf_index > raft.log.applied:", "if False:"),
    "a new leader does not expect a change": Mistake(
        "raft", "        self.pending_conf_index = self.log.last_index()\n        self.append", "        self.append"
    ),
    "an election with members that have changed": Mistake(
        "election", " and not raft.log.has_unapplied_conf_change()", ""
    ),
    "a removed leader leads": Mistake(
        "membership", "raft.become_follower(raft.term, NOBODY)  # it has led", "pass  # it has led"
    ),
    "a smaller majority commits nothing": Mistake("membership", "if raft.maybe_commit():  # the", "if False:  # the"),
    "a stranger's answers count": Mistake("raw_node", "if answers and message.sender not in", "if False and 0 not in"),
    "leadership goes to one that is behind": Mistake(
        "leader",
        "    if progress.match == raft.log.last_index():\n        send_timeout_now(raft, member)\n    else:",
        "    send_timeout_now(raft, member)\n    if False:",
    ),
    "proposals while leadership is handed over": Mistake(
        "leader",
        "raft.id not in raft.tracker.progress or raft.transferee != NOBODY",
        "raft.id not in raft.tracker.progress",
    ),
    "leadership is handed over forever": Mistake(
        "step", "        raft.transferee = NOBODY  # whoever", "        pass  #"
    ),
    "a snapshot takes the place of what is here": Mistake(
        "follower", "if log.matches(snapshot.index, snapshot.term):", "if False:"
    ),
    "a snapshot to a member that is gone": Mistake("replication", "if not progress.recent_active:", "if False:"),
    "appends are on their way forever": Mistake(
        "leader", "        progress.inflights.free_through(index)", "        pass"
    ),
    "a heartbeat does not end a pause": Mistake("leader", "    progress.is_paused = False  # what", "    pass  # what"),
    "an old refusal counts": Mistake(
        "progress", "            if rejected <= self.match:\n                return False\n", ""
    ),
    "probes follow each other": Mistake("progress", "        elif count > 0:", "        elif count > 1000:"),
    "one index is tried after the other": Mistake(
        "leader", "hint, _ = raft.log.find_conflict_by_term(hint, message.log_term)", "pass"
    ),
    "what is applied is not taken off what is uncommitted": Mistake(
        "raw_node", "raft.uncommitted_bytes = max(raft.uncommitted_bytes - size, 0)", "pass"
    ),
    "what is passed on has a term": Mistake(
        "raft",
        "message.term = 0 if message.kind == PROPOSE or message.kind == READ_INDEX else self.term",
        "message.term = self.term",
    ),
}


def plant(mistake: Mistake, package: Path) -> None:
    """Into a copy of the package, whose other modules are right."""
    shutil.rmtree(package / "raft", ignore_errors=True)
    shutil.copytree(CHECKOUT / "broker" / "raft", package / "raft", ignore=shutil.ignore_patterns("__pycache__"))
    path = package / "raft" / f"{mistake.module}.py"
    text = path.read_text()
    if text.count(mistake.right) != 1:
        raise AssertionError(f"{path.name} has changed: {mistake.right!r} is there {text.count(mistake.right)} times")
    path.write_text(text.replace(mistake.right, mistake.wrong))


def found_by() -> str:
    """The recording and the event at which the core that is loaded now differs; empty: none is found."""
    for name in [name for name in sys.modules if name.startswith(("broker.raft", "tests.support.raft_stream"))]:
        del sys.modules[name]
    stream = importlib.import_module("tests.support.raft_stream")
    recordings = importlib.import_module("tests.support.raft_recordings")
    for path in sorted(recordings.FOLDER.glob("*.txt")):
        events, theirs = recordings.read(path)
        world = stream.World(events[0])
        world.answer(list(world.members.values()))
        for at, (event, their) in enumerate(zip(events[1:], theirs[1:], strict=True), 1):
            try:
                our = world.run(event)
            except AssertionError:
                our = "the core has noticed it"
            if our != their:
                return f"{path.name}, event {at}"
    return ""


def main(names: list[str]) -> None:
    """Plants them one after the other."""
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "broker"
        package.mkdir()
        for path in (CHECKOUT / "broker").iterdir():
            if path.name not in ("raft", "__pycache__"):
                (package / path.name).symlink_to(path)
        sys.path.insert(0, folder)
        for name in names or PLANTED:
            plant(PLANTED[name], package)
            importlib.invalidate_caches()
            print(f"{name}: {found_by()}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
