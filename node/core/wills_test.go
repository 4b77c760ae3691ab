package core_test

import (
	"strings"
	"testing"
	"time"
)

const willPair = `
	node a
	node b region=luna
	link a b
	subscribe b far will/# qos=1 auto
	stabilize`

// A delay that is over is over, although nobody has looked at the clock since.
func TestWillDueBeforeTick(t *testing.T) {
	e := newEnv()
	e.script(willPair + "\n connect a dev expiry=100 will=w topic=will/1 delay=10\n disconnect a dev expiry=100")
	e.now = e.now.Add(10 * time.Second)
	e.do("connect a dev expiry=100")
	if out := e.do("stabilize"); !strings.Contains(out, "delivers w to far") {
		t.Errorf("the device came back after the delay, want its will:\n%s", out)
	}
}

// What a connection that was taken over says late is not about the new one.
func TestWillOfNewerConnection(t *testing.T) {
	e := newEnv()
	e.script(willPair + "\n connect a dev expiry=0\n connect a dev expiry=0 will=w topic=will/1")
	n := e.node("a")
	old := n.device("dev").conn - 1
	n.core.ForgetWill(e.now, "dev", old)
	n.core.CloseSession(e.now, "dev", old, 0)
	n.pump()
	if out := e.do("stabilize"); strings.Contains(out, "delivers") {
		t.Fatalf("fired for an older connection:\n%s", out)
	}
	e.do("disconnect a dev expiry=0")
	if out := e.do("stabilize"); !strings.Contains(out, "delivers w to far") {
		t.Errorf("an older connection took the will along:\n%s", out)
	}
}

// A session that is ended by hand takes no delay along.
func TestWillOfEndedSession(t *testing.T) {
	e := newEnv()
	e.script(willPair + "\n connect a dev expiry=100 will=w topic=will/1 delay=10\n disconnect a dev expiry=100")
	e.node("a").core.EndSession(e.now, 0, "dev")
	e.node("a").pump()
	if out := e.do("stabilize"); !strings.Contains(out, "delivers w to far") {
		t.Errorf("want the will with the end of the session:\n%s", out)
	}
}

// All devices of a node are lost when it is killed. Their wills leave in several
// writes, so that none is too large.
func TestManyWillsAfterCrash(t *testing.T) {
	const many = 3000
	e := newEnv()
	e.script(willPair)
	heard := 0
	for i := range many {
		e.do("connect a dev%d expiry=0 will=w%d topic=will/%d", i, i, i)
	}
	e.do("sync a")
	out := e.do("crash a show=write")
	for line := range strings.Lines(out) {
		if n := strings.Count(line, "put w"); n > 1024 {
			t.Errorf("a write of %d wills", n)
		}
	}
	e.do("up a b")
	for line := range strings.Lines(e.do("tick 10s")) {
		heard += strings.Count(line, " to far ")
	}
	if heard != many {
		t.Errorf("%d wills heard, want %d", heard, many)
	}
}

// Two runs of one story are equal: no order of a map shows.
func TestWillsInOneOrder(t *testing.T) {
	story := func() string {
		e := newEnv()
		e.script(willPair)
		for i := range 50 {
			e.do("connect a dev%d expiry=100 will=w%d topic=will/%d delay=%d", i, i, i, i%3)
		}
		e.do("sync a")
		return e.do("crash a show=write") + e.do("up a b") + e.do("tick 10s")
	}
	first := story()
	for range 5 {
		if again := story(); again != first {
			t.Fatalf("one run:\n%s\nanother:\n%s", first, again)
		}
	}
	if n := strings.Count(first, "delivers"); n != 50 {
		t.Errorf("%d wills heard, want 50", n)
	}
}
