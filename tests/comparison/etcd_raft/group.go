package main

import (
	"encoding/binary"
	"math"
	"strings"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// group is all members, and everything that one has ever sent to another.
type group struct {
	config  raft.Config
	salt    uint64
	founded *pb.ConfState
	members []*member
	sent    map[[2]uint64][]*pb.Message
	labels  uint64
}

func newGroup(words []string) *group {
	limit := func(text string) uint64 {
		if text == "-" {
			return math.MaxUint64
		}
		return number(text)
	}
	g := &group{
		salt:    number(words[12]),
		founded: &pb.ConfState{Voters: ids(words[1]), Learners: ids(words[2])},
		sent:    map[[2]uint64][]*pb.Message{},
		config: raft.Config{
			PreVote:                   words[3] == "1",
			CheckQuorum:               words[4] == "1",
			ElectionTick:              int(number(words[5])),
			HeartbeatTick:             int(number(words[6])),
			MaxSizePerMsg:             limit(words[7]),
			MaxCommittedSizePerReady:  limit(words[8]),
			MaxUncommittedEntriesSize: limit(words[9]),
			MaxInflightMsgs:           int(number(words[10])),
			MaxInflightBytes:          limit(words[11]),
			StepDownOnRemoval:         true,
			Logger:                    silent{},
		},
	}
	for id := uint64(1); id <= number(words[0]); id++ {
		g.members = append(g.members, newMember(id, g))
	}
	return g
}

func ids(text string) (found []uint64) {
	if text != "-" {
		for _, id := range strings.Split(text, ",") {
			found = append(found, number(id))
		}
	}
	return found
}

func (g *group) all() []*member { return g.members }

// happen lets an event happen, and says to whom.
func (g *group) happen(kind string, words []string) []*member {
	if kind == "T" {
		for _, member := range g.members {
			member.node.Tick()
		}
		return g.members
	}
	m := g.members[number(words[0])-1]
	switch kind {
	case "t":
		m.node.Tick()
	case "d":
		m = g.members[number(words[1])-1]
		message := g.sent[[2]uint64{number(words[0]), number(words[1])}][number(words[2])]
		switch message.GetType() {
		case pb.MsgProp, pb.MsgReadIndex, pb.MsgTransferLeader:
			// it is changed on its way on, and may come again
			message = proto.Clone(message).(*pb.Message)
		}
		m.step(message)
	case "p":
		m.step(&pb.Message{Type: pb.MsgProp.Enum(), From: new(m.id), Entries: g.entries(words[1:])})
	case "h":
		must(m.node.Campaign())
	case "x":
		m.node.TransferLeader(number(words[1]))
	case "r":
		m.node.ReadIndex(binary.LittleEndian.AppendUint64(nil, number(words[1])))
	case "s":
		m.compact()
	case "y":
		status := raft.SnapshotFinish
		if words[2] == "1" {
			status = raft.SnapshotFailure
		}
		m.node.ReportSnapshot(number(words[1]), status)
	case "u":
		m.node.ReportUnreachable(number(words[1]))
	case "f":
		must(m.node.ForgetLeader())
	case "R":
		m.restart(words[1] == "1")
	case "g":
	default:
		panic("no such event: " + kind)
	}
	return []*member{m}
}

var changes = map[byte]pb.ConfChangeType{
	'+': pb.ConfChangeAddNode, '-': pb.ConfChangeRemoveNode, '*': pb.ConfChangeAddLearnerNode,
}

// entries makes those of a proposal: a number of bytes each, or a change of the members.
func (g *group) entries(words []string) (made []*pb.Entry) {
	for _, word := range words {
		if kind, found := changes[word[0]]; found {
			data, err := proto.Marshal(&pb.ConfChange{Type: kind.Enum(), NodeId: new(number(word[1:]))})
			must(err)
			made = append(made, &pb.Entry{Type: pb.EntryConfChange.Enum(), Data: data})
			continue
		}
		g.labels++
		data := make([]byte, number(word))
		if len(data) >= 8 {
			binary.BigEndian.PutUint64(data, g.labels)
		}
		made = append(made, &pb.Entry{Data: data})
	}
	return made
}

func labelOf(entry *pb.Entry) uint64 {
	if len(entry.GetData()) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(entry.GetData())
}
