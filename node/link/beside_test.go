package link

import "testing"

// TestRenew: who has the address of a silent session's peer dials beside it,
// and the new one replaces it at both ends. Who has none ends the session, but
// only when the peer is heard, and the peer dials.
func TestRenew(t *testing.T) { overBoth(t, testRenew) }

func testRenew(t *testing.T, dials dialing) {
	m := newMesh(t)
	b := m.start("b", nil)
	a := m.start("a", dials(b.addr))
	sa, sb := a.next("up").s, b.next("up").s
	until(func() bool { return !sb.fresh() })
	sa.Renew(false)
	if e := a.next("down"); e.s != sa || e.why.Cause != Replaced {
		t.Errorf("at a session %d ended for %v, want the first one, replaced", e.s.ID(), e.why)
	}
	if e := b.next("down"); e.s != sb || e.why.Cause != Replaced {
		t.Errorf("at b session %d ended for %v, want the first one, replaced", e.s.ID(), e.why)
	}
	sa, sb = a.next("up").s, b.next("up").s
	if !sa.Dialed() || sb.Dialed() {
		t.Errorf("the new session was dialled by a: %t, by b: %t", sa.Dialed(), sb.Dialed())
	}
	until(func() bool { return !sb.fresh() })
	sb.Renew(false)
	until(func() bool { return len(sb.renew) == 0 })
	sb.Renew(true)
	if e := b.next("down"); e.s != sb || e.why.Cause != Silent || e.why.Remote {
		t.Errorf("at b session %d ended for %v, want silent", e.s.ID(), e.why)
	}
	if e := a.next("down"); e.s != sa || !e.why.Remote {
		t.Errorf("at a session %d ended for %v, want by the peer", e.s.ID(), e.why)
	}
	a.next("up")
	b.next("up")
	a.mustBeUp()
	b.mustBeUp()
}

// TestRenewIsOver: a session that carries again has no rival.
func TestRenewIsOver(t *testing.T) {
	m := newMesh(t)
	b := m.start("b", nil)
	a := m.start("a", dials(b.addr))
	sa := a.next("up").s
	b.next("up")
	b.end() // nobody answers
	sa.Renew(false)
	sa.Carries()
	sa.Carries()
	if sa.renewal() != nil {
		t.Error("the search goes on")
	}
	sa.Renew(true)
	if r := sa.renewal(); r == nil || !r.heard || r.ctx.Err() != nil {
		t.Errorf("asked for again: %+v", r)
	}
}

// mustBeUp fails the test when there is no session.
func (n *testNode) mustBeUp() {
	n.t.Helper()
	if len(n.Sessions()) != 1 {
		n.t.Errorf("%s has %d sessions, want 1", n.cfg.Node, len(n.Sessions()))
	}
}
