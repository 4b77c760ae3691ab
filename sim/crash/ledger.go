package main

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"
)

// ledger knows what was published, what was promised, and what came.
type ledger struct {
	mu     sync.Mutex // guards what follows
	flows  []*flow
	faults []string
}

// flow is the messages of one publisher, numbered from 1, and who reads them.
type flow struct {
	name    string
	readers []string
	sent    []fate // of message i+1
	got     map[string]*reading
}

// fate is what a publisher was told of a message.
type fate uint8

const (
	underWay fate = iota // published, no answer yet
	acked                // PUBREC: it is the node's now
	refused              // PUBREC with a reason of 0x80 or more
)

func (f fate) String() string { return [...]string{"unacknowledged", "acknowledged", "refused"}[f] }

// reading is what one reader got of a flow.
type reading struct {
	seen  []bool // of message i+1
	count int
	last  int
}

// maxFaults bounds the list: beyond it nothing new is learned.
const maxFaults = 200

func (l *ledger) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faultLocked(format, args...)
}

func (l *ledger) faultLocked(format string, args ...any) {
	if len(l.faults) < maxFaults {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

// open adds a flow.
func (l *ledger) open(name string, readers ...string) {
	f := &flow{name: name, readers: readers, got: map[string]*reading{}}
	for _, r := range readers {
		f.got[r] = &reading{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flows = append(l.flows, f)
}

func (l *ledger) flow(name string) *flow {
	for _, f := range l.flows {
		if f.name == name {
			return f
		}
	}
	return nil
}

// publish draws the next number of a flow.
func (l *ledger) publish(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.flow(name)
	f.sent = append(f.sent, underWay)
	return len(f.sent)
}

// answered notes the PUBREC of a message.
func (l *ledger) answered(name string, n int, reason byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.flow(name)
	switch {
	case reason >= 0x80:
		f.sent[n-1] = refused
		for _, r := range f.readers {
			if f.got[r].has(n) {
				l.faultLocked("refused but delivered: %s #%d, reason 0x%02x", name, n, reason)
			}
		}
	case reason == 0x10:
		l.faultLocked("lost: the node of %s answered #%d with \"no subscriber\", but there is one", name, n)
	default:
		f.sent[n-1] = acked
	}
}

// delivered notes a message at a reader, as its payload says.
func (l *ledger) delivered(reader string, payload []byte) {
	name, n, err := parsePayload(payload)
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.flow(name)
	switch {
	case err != nil:
		l.faultLocked("damaged: %s got %d bytes: %v", reader, len(payload), err)
		return
	case f == nil || f.got[reader] == nil || n < 1 || n > len(f.sent):
		l.faultLocked("foreign: %s got %s #%d, which was not for it", reader, name, n)
		return
	}
	r := f.got[reader]
	for len(r.seen) < n {
		r.seen = append(r.seen, false)
	}
	switch {
	case r.seen[n-1]:
		l.faultLocked("duplicated: %s got %s #%d again", reader, name, n)
		return
	case f.sent[n-1] == refused:
		l.faultLocked("refused but delivered: %s got %s #%d", reader, name, n)
	case n < r.last:
		l.faultLocked("out of order: %s got %s #%d after #%d", reader, name, n, r.last)
	}
	r.seen[n-1] = true
	r.count++
	r.last = max(r.last, n)
}

func (r *reading) has(n int) bool { return n <= len(r.seen) && r.seen[n-1] }

// marks are the numbers published so far, by flow.
func (l *ledger) marks() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := map[string]int{}
	for _, f := range l.flows {
		m[f.name] = len(f.sent)
	}
	return m
}

// passed says which flows have not brought every reader something younger
// than the marks yet; "" when all have.
func (l *ledger) passed(marks map[string]int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var late []string
	for _, f := range l.flows {
		for _, r := range f.readers {
			if f.got[r].last <= marks[f.name] {
				late = append(late, fmt.Sprintf("%s at %s is at #%d of %d", f.name, r, f.got[r].last, marks[f.name]))
			}
		}
	}
	return strings.Join(late, ", ")
}

// missing lists what was published, not refused, and did not come.
func (l *ledger) missing() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, f := range l.flows {
		for _, r := range f.readers {
			for i, fate := range f.sent {
				if fate != refused && !f.got[r].has(i+1) {
					out = append(out, fmt.Sprintf("%s #%d (%s) at %s", f.name, i+1, fate, r))
				}
			}
		}
	}
	return out
}

// totals of all flows; delivered counts every reader.
func (l *ledger) totals() (published, promised, declined, delivered int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.flows {
		published += len(f.sent)
		for _, s := range f.sent {
			switch s {
			case acked:
				promised++
			case refused:
				declined++
			case underWay:
			}
		}
		for _, r := range f.got {
			delivered += r.count
		}
	}
	return published, promised, declined, delivered
}

// list returns the faults so far.
func (l *ledger) list() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.faults...)
}

// count returns how many faults are of a kind.
func (l *ledger) count(kind string) (n int) {
	for _, f := range l.list() {
		if strings.HasPrefix(f, kind) {
			n++
		}
	}
	return n
}

// makePayload writes flow and number, a checksum, and filling up to size
// bytes, which the checksum covers.
func makePayload(name string, n, size int) []byte {
	head := fmt.Appendf(nil, "%s %d ", name, n)
	body := bytes.Repeat([]byte{byte('a' + n%26)}, max(size-len(head)-9, 0))
	sum := crc32.ChecksumIEEE(append(bytes.Clone(head), body...))
	return append(fmt.Appendf(head, "%08x ", sum), body...)
}

func parsePayload(b []byte) (name string, n int, err error) {
	var sum uint32
	parts := bytes.SplitN(b, []byte(" "), 4)
	if len(parts) != 4 {
		return "", 0, fmt.Errorf("not ours: %.40q", b)
	}
	if _, err := fmt.Sscanf(string(parts[1])+" "+string(parts[2]), "%d %x", &n, &sum); err != nil {
		return "", 0, fmt.Errorf("not ours: %.40q", b)
	}
	head := fmt.Appendf(nil, "%s %d ", parts[0], n)
	if crc32.ChecksumIEEE(append(head, parts[3]...)) != sum {
		return "", 0, fmt.Errorf("wrong checksum: %.40q", b)
	}
	return string(parts[0]), n, nil
}
