// etcd_raft hosts the members of one Raft group, each an etcd/raft RawNode, and says after every event of a stream what
// became of them: the other half of the differential run (tests/support/raft_stream.py says what the lines mean).
//
// One event a line comes in, one line goes out for each; "flush" makes what was written leave. Only this side's own
// code is here: etcd/raft comes from its module, in the version of go.mod.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"go.etcd.io/raft/v3"
)

func main() {
	raft.SetLogger(silent{})
	in := bufio.NewReaderSize(os.Stdin, 1<<16)
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	defer out.Flush()
	var group *group
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "flush":
			out.Flush()
		case words[0] == "new":
			group = newGroup(words[1:])
			fmt.Fprintln(out, group.answer(group.all()))
		default:
			fmt.Fprintln(out, answer(group, words))
		}
	}
}

// answer is what an event comes to. A panic is said as well: the comparison ends with it.
func answer(group *group, words []string) (text string) {
	defer func() {
		if reason := recover(); reason != nil {
			text = fmt.Sprintf("panic %v", reason)
		}
	}()
	mark := words[0]
	if mark == "~" || mark == "=" {
		words = words[1:]
	}
	touched := group.happen(words[0], words[1:])
	for _, member := range touched {
		switch mark {
		case "~":
		case "=":
			member.begin()
		default:
			member.handle()
		}
	}
	for _, member := range touched {
		member.normalise()
	}
	return group.answer(touched)
}

func number(text string) uint64 {
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return value
}

// silent is a logger that only panics.
type silent struct{}

func (silent) Debug(...any)            {}
func (silent) Debugf(string, ...any)   {}
func (silent) Error(...any)            {}
func (silent) Errorf(string, ...any)   {}
func (silent) Info(...any)             {}
func (silent) Infof(string, ...any)    {}
func (silent) Warning(...any)          {}
func (silent) Warningf(string, ...any) {}
func (silent) Fatal(v ...any)          { panic(fmt.Sprint(v...)) }
func (silent) Fatalf(f string, v ...any) {
	panic(fmt.Sprintf(f, v...))
}
func (silent) Panic(v ...any) { panic(fmt.Sprint(v...)) }
func (silent) Panicf(f string, v ...any) {
	panic(fmt.Sprintf(f, v...))
}
