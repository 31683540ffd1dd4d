package main

import (
	"encoding/binary"
	"reflect"
	"slices"
	"unsafe"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// disk is etcd's storage in memory, with the configuration at the last applied entry: a start asks for that.
type disk struct {
	*raft.MemoryStorage
	hard *pb.HardState
	conf *pb.ConfState
}

func (d *disk) InitialState() (*pb.HardState, *pb.ConfState, error) { return d.hard, d.conf, nil }

// member is one member of the group, with its disk and a state machine that is a checksum.
type member struct {
	id      uint64
	group   *group
	disk    *disk
	node    *raft.RawNode
	applied uint64
	digest  uint64
	conf    *pb.ConfState
	// what the last snapshot stands for
	snapshotDigest uint64
	snapshotConf   *pb.ConfState

	// what was handed out and is not finished
	open    *raft.Ready
	sent    []*pb.Message
	reads   []raft.ReadState
	refused bool
	said    map[string]string
}

func newMember(id uint64, group *group) *member {
	m := &member{
		id: id, group: group, conf: group.founded, snapshotConf: group.founded, said: map[string]string{},
		disk: &disk{MemoryStorage: raft.NewMemoryStorage(), conf: group.founded},
	}
	m.start()
	return m
}

func (m *member) start() {
	config := m.group.config
	config.ID = m.id
	config.Storage = m.disk
	config.Applied = m.applied
	node, err := raft.NewRawNode(&config)
	if err != nil {
		panic(err)
	}
	m.node = node
	m.normalise()
}

// restart begins with what is on the disk; without the state of the machine it begins with the snapshot's.
func (m *member) restart(keepState bool) {
	if !keepState {
		first, _ := m.disk.FirstIndex()
		m.applied = first - 1
		m.digest = m.snapshotDigest
		m.conf = m.snapshotConf
	}
	m.disk.conf = m.conf
	m.open = nil
	m.start()
}

// handle does all that is to be done.
func (m *member) handle() {
	for m.open != nil || m.node.HasReady() {
		if m.begin(); m.open != nil {
			m.finish()
		}
	}
}

// begin saves and sends what is to be saved and sent now, unless something else is not finished yet. Nothing waits
// behind a snapshot.
func (m *member) begin() {
	if m.open != nil || !m.node.HasReady() {
		return
	}
	ready := m.node.Ready()
	for onlyTold(ready) {
		m.node.Advance(ready)
		if !m.node.HasReady() {
			return
		}
		ready = m.node.Ready()
	}
	m.open = &ready
	if !raft.IsEmptySnap(ready.Snapshot) {
		m.install(ready.Snapshot)
	}
	must(m.disk.Append(ready.Entries))
	if !raft.IsEmptyHardState(ready.HardState) {
		m.disk.hard = proto.Clone(ready.HardState).(*pb.HardState)
	}
	slices.SortStableFunc(ready.Messages, func(a, b *pb.Message) int { return place(a) - place(b) })
	m.sent = append(m.sent, ready.Messages...)
	m.reads = append(m.reads, ready.ReadStates...)
	if !raft.IsEmptySnap(ready.Snapshot) {
		m.handle()
	}
}

// place is where a message stands among those that are handed out together: requests for votes behind what may leave at
// once, and before the answers, which wait for the disk.
func place(message *pb.Message) int {
	switch message.GetType() {
	case pb.MsgAppResp, pb.MsgVoteResp, pb.MsgPreVoteResp:
		return 2
	case pb.MsgVote:
		return 1
	}
	return 0
}

// onlyTold says whether it is nothing but the role and the leader, which our core does not hand out.
func onlyTold(ready raft.Ready) bool {
	return len(ready.Entries)+len(ready.CommittedEntries)+len(ready.Messages)+len(ready.ReadStates) == 0 &&
		raft.IsEmptyHardState(ready.HardState) && raft.IsEmptySnap(ready.Snapshot)
}

// finish applies what was handed out, and tells the core that it is saved and applied.
func (m *member) finish() {
	for _, entry := range m.open.CommittedEntries {
		m.apply(entry)
	}
	m.node.Advance(*m.open)
	m.open = nil
}

func (m *member) install(snapshot *pb.Snapshot) {
	must(m.disk.ApplySnapshot(snapshot))
	m.applied = snapshot.GetMetadata().GetIndex()
	m.conf = snapshot.GetMetadata().GetConfState()
	m.digest = binary.BigEndian.Uint64(snapshot.GetData())
	m.snapshotDigest, m.snapshotConf = m.digest, m.conf
}

func (m *member) apply(entry *pb.Entry) {
	label := labelOf(entry)
	if entry.GetType() == pb.EntryConfChange {
		change := &pb.ConfChange{}
		must(proto.Unmarshal(entry.GetData(), change))
		label = uint64(change.GetType())*16 + change.GetNodeId()
		if leavesNoVoter(m.conf, change) {
			change.NodeId = new(uint64(0))
		}
		m.conf = m.node.ApplyConfChange(change)
	}
	m.digest = (m.digest*31 + entry.GetIndex()*7 + entry.GetTerm()*3 + label) % (1 << 32)
	m.applied = entry.GetIndex()
}

func leavesNoVoter(conf *pb.ConfState, change *pb.ConfChange) bool {
	return change.GetType() != pb.ConfChangeAddNode && slices.Equal(conf.GetVoters(), []uint64{change.GetNodeId()})
}

// compact lets a snapshot stand for everything that was applied.
func (m *member) compact() {
	first, _ := m.disk.FirstIndex()
	if m.applied < first {
		return
	}
	_, err := m.disk.CreateSnapshot(m.applied, m.conf, binary.BigEndian.AppendUint64(nil, m.digest))
	must(err)
	must(m.disk.Compact(m.applied))
	m.snapshotDigest, m.snapshotConf = m.digest, m.conf
}

// step takes what comes from others, or is asked for. Only a proposal that is refused is told.
func (m *member) step(message *pb.Message) {
	if m.node.Step(message) == raft.ErrProposalDropped {
		m.refused = true
	}
}

// inner reads and sets fields of the core that it shows to nobody.
type inner struct {
	timeout, elapsed, heartbeat, pending, uncommitted, waitingReads uintptr
}

var fields = func() inner {
	core := reflect.TypeOf(raft.RawNode{}).Field(0).Type.Elem()
	offset := func(name string) uintptr {
		field, found := core.FieldByName(name)
		if !found {
			panic("etcd/raft has no field " + name)
		}
		return field.Offset
	}
	return inner{
		offset("randomizedElectionTimeout"), offset("electionElapsed"), offset("heartbeatElapsed"),
		offset("pendingConfIndex"), offset("uncommittedSize"), offset("pendingReadIndexMessages"),
	}
}()

func (m *member) at(offset uintptr) unsafe.Pointer {
	return unsafe.Add(reflect.ValueOf(m.node).Elem().Field(0).UnsafePointer(), offset)
}

func (m *member) field(offset uintptr) *uint64 { return (*uint64)(m.at(offset)) }

// normalise takes the place of the random numbers, and lets go what only etcd/raft keeps: reads that a leader has not
// answered when it is none any more.
func (m *member) normalise() {
	ticks := uint64(m.group.config.ElectionTick)
	status := m.node.BasicStatus()
	*m.field(fields.timeout) = ticks + (m.id*7+status.GetTerm()*5+m.group.salt)%ticks
	if status.RaftState != raft.StateLeader {
		*(*[]*pb.Message)(m.at(fields.waitingReads)) = nil
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
