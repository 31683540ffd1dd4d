package main

import (
	"encoding/binary"
	"fmt"
	"strings"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"
)

// answer is one line: for each member that was touched what is different from what was said of it last, and what it
// has sent since.
func (g *group) answer(touched []*member) string {
	var parts []string
	for _, m := range touched {
		words := m.news()
		if m.refused {
			words = append(words, "!")
		}
		for _, read := range m.reads {
			words = append(words, fmt.Sprintf("?%d:%d", read.Index, binary.LittleEndian.Uint64(read.RequestCtx)))
		}
		for _, message := range m.sent {
			words = append(words, messageText(message))
			pair := [2]uint64{m.id, message.GetTo()}
			g.sent[pair] = append(g.sent[pair], message)
		}
		m.refused, m.reads, m.sent = false, nil, nil
		if len(words) > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", m.id, strings.Join(words, " ")))
		}
	}
	if len(parts) == 0 {
		return "."
	}
	return strings.Join(parts, " | ")
}

// news is the fields of the state that have changed.
func (m *member) news() (words []string) {
	said := make(map[string]string, len(m.said))
	say := func(name, value string) {
		said[name] = value
		if before, found := m.said[name]; !found || before != value {
			words = append(words, name+value)
		}
	}
	count := func(name string, value uint64) { say(name, fmt.Sprint(value)) }
	status := m.node.BasicStatus()
	first, _ := m.disk.FirstIndex()
	last, _ := m.disk.LastIndex()
	term, _ := m.disk.Term(last)
	say("r", "FCLP"[status.RaftState:status.RaftState+1])
	count("t", status.GetTerm())
	count("v", status.GetVote())
	count("c", status.GetCommit())
	count("a", status.Applied)
	count("l", status.Lead)
	count("n", last)
	count("m", term)
	count("f", first)
	count("x", status.LeadTransferee)
	count("q", *m.field(fields.pending))
	count("u", *m.field(fields.uncommitted))
	count("e", *m.field(fields.elapsed))
	count("b", *m.field(fields.heartbeat))
	count("d", m.digest)
	var voters, learners []string
	m.node.WithProgress(func(id uint64, kind raft.ProgressType, progress tracker.Progress) {
		if kind == raft.ProgressTypeLearner {
			learners = append(learners, fmt.Sprint(id))
		} else {
			voters = append(voters, fmt.Sprint(id))
		}
		if status.RaftState == raft.StateLeader {
			say(fmt.Sprintf("p%d=", id), progressText(&progress))
		}
	})
	say("V", strings.Join(voters, ","))
	say("L", strings.Join(learners, ","))
	m.said = said
	return words
}

func progressText(progress *tracker.Progress) string {
	text := fmt.Sprintf("%c%d,%d", progress.State.String()[5], progress.Match, progress.Next)
	if progress.State == tracker.StateSnapshot {
		text += fmt.Sprintf(",%d", progress.PendingSnapshot)
	}
	if progress.MsgAppFlowPaused {
		text += "p"
	}
	if progress.RecentActive {
		text += "a"
	}
	return text
}

func messageText(message *pb.Message) string {
	text := fmt.Sprintf(">%d:%d", message.GetTo(), message.GetType())
	if message.GetFrom() == raft.None {
		text += ",from nobody"
	}
	count := func(name string, value uint64) {
		if value != 0 {
			text += fmt.Sprintf(",%s%d", name, value)
		}
	}
	count("o", message.GetFrom())
	count("t", message.GetTerm())
	count("i", message.GetIndex())
	count("g", message.GetLogTerm())
	count("c", message.GetCommit())
	if message.GetReject() {
		text += ",R"
	}
	count("h", message.GetRejectHint())
	kind := message.GetType()
	switch {
	case kind == pb.MsgReadIndex || kind == pb.MsgReadIndexResp:
		count("x", binary.LittleEndian.Uint64(message.GetEntries()[0].GetData()))
		return text
	case kind == pb.MsgVote || kind == pb.MsgPreVote:
		if len(message.GetContext()) > 0 {
			text += ",T"
		}
	case len(message.GetContext()) > 0:
		count("x", binary.LittleEndian.Uint64(message.GetContext()))
	}
	var entries []string
	for _, entry := range message.GetEntries() {
		entries = append(entries, entryText(entry))
	}
	if len(entries) > 0 {
		text += "," + strings.Join(entries, ";")
	}
	if snapshot := message.GetSnapshot(); snapshot != nil {
		meta := snapshot.GetMetadata()
		text += fmt.Sprintf(",S%d/%d/%s/%s/%d", meta.GetTerm(), meta.GetIndex(),
			list(meta.GetConfState().GetVoters()), list(meta.GetConfState().GetLearners()),
			binary.BigEndian.Uint64(snapshot.GetData()))
	}
	return text
}

func list(ids []uint64) string {
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(ids)), "+"), "[]")
}

func entryText(entry *pb.Entry) string {
	text := fmt.Sprintf("%d/%d", entry.GetTerm(), entry.GetIndex())
	if entry.GetType() == pb.EntryConfChange {
		change := &pb.ConfChange{}
		must(proto.Unmarshal(entry.GetData(), change))
		return fmt.Sprintf("%s~%d.%d", text, change.GetType(), change.GetNodeId())
	}
	if label := labelOf(entry); label != 0 {
		text += fmt.Sprintf("=%d", label)
	}
	return text
}
