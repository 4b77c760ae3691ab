package main

import (
	"strings"
	"testing"
)

// TestLedger tells every kind of fault from what is right.
func TestLedger(t *testing.T) {
	for _, c := range []struct {
		name  string
		play  func(l *ledger)
		fault string // "" for none
		lost  int
	}{
		{"all is well", func(l *ledger) { sendAll(l, 3); read(l, 1, 2, 3) }, "", 0},
		{"one is missing", func(l *ledger) { sendAll(l, 3); read(l, 1, 3) }, "", 1},
		{"one comes twice", func(l *ledger) { sendAll(l, 3); read(l, 1, 2, 2, 3) }, "duplicated: r got f #2 again", 0},
		{"two change places", func(l *ledger) { sendAll(l, 3); read(l, 1, 3, 2) }, "out of order: r got f #2 after #3", 0},
		{"one that was never sent", func(l *ledger) { sendAll(l, 1); read(l, 1, 2) }, "foreign: r got f #2", 0},
		{"one for another", func(l *ledger) { sendAll(l, 1); l.delivered("other", makePayload("f", 1, 10)) }, "foreign: other got f #1", 1},
		{"a bit flips", func(l *ledger) {
			sendAll(l, 1)
			b := makePayload("f", 1, 100)
			b[60] ^= 1
			l.delivered("r", b)
		}, "damaged: r got 100 bytes", 1},
		{"cut short", func(l *ledger) { sendAll(l, 1); l.delivered("r", makePayload("f", 1, 100)[:7]) }, "damaged: r got 7 bytes", 1},
		{"refused is not missed", func(l *ledger) { sendAll(l, 1); l.publish("f"); l.answered("f", 2, 0x97); read(l, 1) }, "", 0},
		{"refused but delivered", func(l *ledger) { sendAll(l, 1); l.publish("f"); l.answered("f", 2, 0x97); read(l, 1, 2) }, "refused but delivered: f #2", 0},
		{"delivered, then refused", func(l *ledger) { l.publish("f"); read(l, 1); l.answered("f", 1, 0x80) }, "refused but delivered: f #1", 0},
		{"nobody is said to read it", func(l *ledger) { l.publish("f"); l.answered("f", 1, 0x10); read(l, 1) }, "lost: the node of f answered #1", 0},
		{"unanswered is expected too", func(l *ledger) { l.publish("f") }, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &ledger{}
			l.open("f", "r")
			c.play(l)
			if n := len(l.missing()); n != c.lost {
				t.Errorf("%d missing, want %d: %v", n, c.lost, l.missing())
			}
			faults := strings.Join(l.list(), "\n")
			if (c.fault == "") != (faults == "") || !strings.Contains(faults, c.fault) && !reverse(faults, c.fault) {
				t.Errorf("faults %q, want %q", faults, c.fault)
			}
		})
	}
}

// reverse lets "refused but delivered: f #2" be told by the reader, too.
func reverse(got, want string) bool {
	kind, _, _ := strings.Cut(want, ":")
	return want != "" && strings.HasPrefix(got, kind+":")
}

func sendAll(l *ledger, n int) {
	for range n {
		l.answered("f", l.publish("f"), 0)
	}
}

func read(l *ledger, numbers ...int) {
	for _, n := range numbers {
		l.delivered("r", makePayload("f", n, 20))
	}
}

func TestPassed(t *testing.T) {
	l := &ledger{}
	l.open("f", "r")
	sendAll(l, 2)
	marks := l.marks()
	if late := l.passed(marks); late != "f at r is at #0 of 2" {
		t.Errorf("late is %q", late)
	}
	sendAll(l, 1)
	read(l, 1, 2)
	if l.passed(marks) == "" {
		t.Error("nothing younger than the marks has come")
	}
	read(l, 3)
	if late := l.passed(marks); late != "" {
		t.Errorf("late is %q", late)
	}
}
