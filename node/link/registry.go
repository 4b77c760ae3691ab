package link

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// registry keeps one session per link: per node, but for nodes with several
// links, which have names. Both ends may dial, also at the same
// moment, and must agree on which connection stays. The rules:
//
//  1. The node with the lower name is the judge of the pair. A connection
//     counts once the judge's Hello is on it; the judge sends its Hello only
//     after it has decided, and it decides about one connection at a time.
//  2. Whoever dials looks again when TLS is done: with a session already up,
//     or another attempt of its own under way, it hangs up (Redundant)
//     without a Hello. So a Hello from the other end means "I have none".
//  3. The judge, dialled while its own Hello is unanswered, waits for that
//     answer: of two fresh connections the one the lower name dialled stays.
//  4. The judge, dialled while a session is up, believes the caller that has
//     none and replaces it, unless that session is fresh and of the same boot
//     of the caller: then the two merely crossed on the way.
//  5. The other end never judges: a Hello from the judge replaces what it has.
//
// Replacing always brings LinkDown of the old session before LinkUp of the new.
type registry struct {
	self addr.Node

	mu    sync.Mutex
	slots map[peering]*slot
}

// peering names a link: its node, and what the dialler calls it, "" where it is the
// only one.
type peering struct {
	node   addr.Node
	uplink string
}

// maxUplinks is how many links with names a node may have.
const maxUplinks = 8

// takes reports whether a link has room among those of its node.
func (r *registry) takes(l peering) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for k, s := range r.slots {
		if k.node != l.node || k.uplink == "" || k == l {
			continue
		}
		if s.cur == nil && s.claim == nil {
			delete(r.slots, k)
			continue
		}
		n++
	}
	return l.uplink == "" || n < maxUplinks
}

// best returns a session with a node: one that is not silent before those that
// are, and the cheapest of them; nil when there is none.
func (r *registry) best(node addr.Node) (out *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, s := range r.slots {
		if k.node == node && s.cur != nil && (out == nil || s.cur.rank(out) < 0) {
			out = s.cur
		}
	}
	return out
}

// rank compares two sessions with a node: negative when s is the better one.
func (s *Session) rank(o *Session) int {
	dead := func(s *Session) int {
		if s.silent.Load() {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(dead(s), dead(o)), cmp.Compare(s.props.Cost, o.props.Cost), cmp.Compare(s.props.Uplink, o.props.Uplink))
}

type slot struct {
	cur   *Session
	heir  *Session      // takes the place of cur when that is down; nil: none
	claim chan struct{} // open while an attempt is decided here; nil: none
}

var errRedundant = errors.New("a session with this node is up or coming up")

func newRegistry(self addr.Node) *registry {
	return &registry{self: self, slots: map[peering]*slot{}}
}

// judge reports whether we decide for the pair with node.
func (r *registry) judge(node addr.Node) bool { return r.self.Compare(node) < 0 }

// slot returns the place of a link; mu is held. There are as many as nodes
// that have ever been authenticated here, and maxUplinks of each.
func (r *registry) slot(node peering) *slot {
	s := r.slots[node]
	if s == nil {
		s = &slot{}
		r.slots[node] = s
	}
	return s
}

// current returns the session with node, nil when there is none.
func (r *registry) current(node peering) *Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.slots[node]; s != nil {
		return s.cur
	}
	return nil
}

// claimDial is rule 2. release must be called once the attempt is decided.
// instead is a session of ours that the new one is to replace, nil when there
// should be none: the judge believes that too, since the session is old.
func (r *registry) claimDial(node peering, instead *Session) (release func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slot(node)
	if s.cur != instead || s.claim != nil {
		return nil, errRedundant
	}
	return r.claim(s), nil
}

func (r *registry) claim(s *slot) (release func()) {
	c := make(chan struct{})
	s.claim = c
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		s.claim = nil
		close(c)
	}
}

// claimInbound is rules 3 to 5 for a connection whose Hello was read. boot is
// the caller's. ctx bounds the wait of rule 3.
func (r *registry) claimInbound(ctx context.Context, node peering, boot uint64) (release func(), err error) {
	if !r.judge(node.node) {
		return func() {}, nil
	}
	for {
		r.mu.Lock()
		s := r.slot(node)
		switch {
		case s.claim != nil:
			other := s.claim
			r.mu.Unlock()
			select {
			case <-other:
			case <-ctx.Done():
				return nil, errRedundant
			}
		case s.cur != nil && s.cur.hello.Boot == boot && s.cur.fresh():
			r.mu.Unlock()
			return nil, errRedundant
		default:
			release := r.claim(s)
			r.mu.Unlock()
			return release, nil
		}
	}
}

// mayAnswer reports whether a Hello that came with a first flight is answered
// before the handshake is done. Where we decide, an answer says that there is no
// session and no attempt of ours; nothing is claimed by it, for the flight may
// be one that somebody plays again.
func (r *registry) mayAnswer(node peering) bool {
	if !r.judge(node.node) {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slots[node]
	return s == nil || s.cur == nil && s.claim == nil
}

// fresh reports whether a Hello that crossed the session's own on the way
// could still arrive.
func (s *Session) fresh() bool {
	return s.cause.Load() == nil && time.Since(s.upAt) < s.props.timing(s.firstRTT).settle+freshTrips*s.firstRTT
}

// install makes s the session of its node, after the older one is down. There is
// no moment between the two without a session: a dialler would use it.
func (r *registry) install(s *Session) {
	for {
		r.mu.Lock()
		sl := r.slot(s.peering())
		old := sl.cur
		if old == nil || old == s {
			sl.cur = s
			r.mu.Unlock()
			return
		}
		sl.heir = s
		r.mu.Unlock()
		old.end(down(Replaced, "a newer connection of %s came from %s", s.peer.Node, s.RemoteAddr()))
		<-old.down
	}
}

// remove frees the place of s, or gives it to the session that waits for it.
func (r *registry) remove(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sl := r.slots[s.peering()]; sl != nil && sl.cur == s {
		sl.cur, sl.heir = sl.heir, nil
	}
}

// sessions returns those that are up.
func (r *registry) sessions() []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*Session
	for _, s := range r.slots {
		if s.cur != nil {
			out = append(out, s.cur)
		}
	}
	return out
}

// over counts the sessions that are up over a layer.
func (r *registry) over(l Layer) (n int) {
	for _, s := range r.sessions() {
		if s.Layer() == l {
			n++
		}
	}
	return n
}
