package core

import (
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// full has a session that never reads fill its share of the store.
func (r *hoardRig) full(t *testing.T, client, topic string) {
	t.Helper()
	r.open(client, NeverExpires, topic+"/#")
	for range 2000 {
		if r.publish(topic+"/x") == bundle.StoreFull {
			return
		}
	}
	t.Fatal("nothing was refused")
}

// waits is how many messages wait for a session.
func (r *hoardRig) waits(client string) (n int) {
	for class := range bundle.Class(bundle.NumClasses) {
		if q := r.c.m.Lookup(store.Queue{Kind: store.ToSession, Name: client, Class: class}); q != nil {
			n += q.Count
		}
	}
	return n
}

// device connects with a will, and returns what has it lose its connection.
func (r *hoardRig) device(client, topic string) (lose func()) {
	r.token++
	conn := r.token
	r.c.OpenSession(r.now, SessionOpen{
		Token: conn, Client: client, Conn: conn, ReceiveMax: 10,
		Will: &Will{Topic: topic, Class: bundle.Telemetry, QoS: 1, Blob: &store.Blob{B: []byte{0x41, 0}}},
	})
	r.settle()
	return func() {
		r.c.CloseSession(r.now, client, conn, 0)
		r.settle()
	}
}

// TestHoardersAndWills: a will for a session that hoards waits, writes nothing
// as it does, keeps no other will from firing, and fires when there is room.
func TestHoardersAndWills(t *testing.T) {
	r := newHoardRig(1000, false)
	r.c.Serve(r.now)
	r.full(t, "deaf", "deaf")
	r.open("late", NeverExpires, "late/#")
	one, two := r.device("one", "deaf/will"), r.device("two", "late/will")
	one()
	r.c.Room(r.now, 1000) // the disk is full
	two()
	if r.waits("late") != 0 || len(r.c.wills.stuck) != 2 {
		t.Fatalf("%d wills wait, %d arrived; want two that wait", len(r.c.wills.stuck), r.waits("late"))
	}
	r.c.Room(r.now, 1<<50)
	r.settle()
	if r.waits("late") != 1 {
		t.Error("the will behind one that has to wait did not fire when there was room")
	}
	for n := range 10 { // a store may tell of its room after every write
		r.c.Room(r.now, 1<<50+int64(n))
		if e := r.c.Take(); e != nil && e.Write != nil {
			t.Fatalf("a will that has to wait wrote %d keys for nothing", len(e.Write.Sets))
		}
	}
	had := r.waits("deaf")
	r.c.EndSession(r.now, 0, "deaf")
	r.settle()
	r.open("deaf", NeverExpires, "deaf/#")
	for range 3 {
		w := r.c.Wake()
		if w.IsZero() {
			break
		}
		r.now = w
		r.c.Tick(r.now)
		r.settle()
	}
	if r.waits("deaf") != 1 {
		t.Errorf("%d wait where %d did before it was emptied; want the will", r.waits("deaf"), had)
	}
}

// TestHoarderKeepsNobodyOut: a device whose will has to wait for a session that
// hoards comes back, and no will of it is lost, whatever ended its connection.
func TestHoarderKeepsNobodyOut(t *testing.T) {
	r := newHoardRig(1000, false)
	r.c.Serve(r.now)
	r.full(t, "deaf", "deaf")
	for n := range 5 {
		lose := r.device("dev", "deaf/will")
		if got := r.reasons[r.token]; got != bundle.OK {
			t.Fatalf("connection %d: %s", n, got)
		}
		if n%2 == 0 { // else the next connection takes over
			lose()
		}
	}
	if n := len(r.c.wills.stuck); n != 5 || len(r.c.wills.of) != 5 {
		t.Errorf("%d wills wait, %d are known; want 5", n, len(r.c.wills.of))
	}
	r.c.EndSession(r.now, 0, "deaf")
	r.settle()
	r.open("deaf", NeverExpires, "deaf/#")
	r.now = r.now.Add(time.Minute)
	r.c.Tick(r.now)
	r.settle()
	if n := r.waits("deaf"); n != 5 || len(r.c.wills.of) != 0 || r.c.wills.bytes != 0 {
		t.Errorf("%d wills arrived, %d are left with %d bytes; want 5 and none", n, len(r.c.wills.of), r.c.wills.bytes)
	}
}

// TestHoardersOfARegion: a route to our own region is no way around.
func TestHoardersOfARegion(t *testing.T) {
	r := newHoardRig(1000, false)
	routes, err := policy.NewTable([]policy.Route{{Name: "own", Topic: "deaf/#", To: []addr.Region{addr.MustRegion("earth")}}})
	if err != nil {
		t.Fatal(err)
	}
	r.c.Configure(r.now, Settings{}, routes)
	r.full(t, "deaf", "deaf")
	held := r.c.m.Stats().Messages
	if got := r.waits("deaf"); got != held {
		t.Errorf("%d messages are held, %d of them for the session; want no others", held, got)
	}
}

// TestHoardersAskForRetained: who subscribes again and again, and reads
// nothing, does not fill the store with what is retained.
func TestHoardersAskForRetained(t *testing.T) {
	r := newHoardRig(1000, false)
	r.open("deaf", NeverExpires, "deaf/#")
	for range 2000 {
		r.token++
		r.c.Submit(r.now, []Submission{{
			Token: r.token, Topic: "deaf/x", Session: "deaf", Service: ServiceRetained, Class: bundle.Telemetry, QoS: 1, Retain: true, TTL: time.Hour,
			Blob: &store.Blob{B: []byte{0x41, 0}},
		}})
		r.settle()
	}
	r.open("late", NeverExpires, "late/#")
	if got := r.publish("late/x"); got != bundle.OK {
		t.Errorf("a message for a session that has nothing waiting: %s", got)
	}
}

// TestMayOpenBesideStubs: sessions that are at other nodes now take no room from
// those that are here.
func TestMayOpenBesideStubs(t *testing.T) {
	r := newHoardRig(1000, false)
	r.open("dev", NeverExpires, "x/#")
	if r.c.MayOpen(1, "other", 1, 1) {
		t.Error("there was room for two where one is allowed")
	}
	r.c.claimed(addr.MustNode("luna-1"), &roamMessage{kind: roamClaims, claims: []claimLine{{client: "dev", epoch: r.c.drawEpoch(0) + 1}}})
	if !r.c.sessions["dev"].moved() || !r.c.MayOpen(2, "other", 1, 1) {
		t.Error("there is no room, though the only session is at another node now")
	}
	if !r.c.MayOpen(3, "dev", 1, 1) {
		t.Error("the one that was here may not come back")
	}
}

// TestHoardersInGroups: what a session has for a shared subscription is held to
// the same, and another member gets what it has no room for.
func TestHoardersInGroups(t *testing.T) {
	r := newHoardRig(1000, false)
	r.open("deaf", NeverExpires, "$share/g/deaf/#")
	for range 2000 {
		r.publish("deaf/x")
	}
	r.open("late", NeverExpires, "late/#")
	if got := r.publish("late/x"); got != bundle.OK {
		t.Errorf("a message for a session that has nothing waiting: %s", got)
	}
	if got := r.publish("deaf/x"); got != bundle.StoreFull {
		t.Errorf("a message for the group: %s", got)
	}
	had := r.waits("deaf")
	r.open("other", NeverExpires, "$share/g/deaf/#")
	for range 2 {
		if got := r.publish("deaf/x"); got != bundle.OK {
			t.Errorf("a message for the group that has another member: %s", got)
		}
	}
	if r.waits("other") != 2 || r.waits("deaf") != had {
		t.Errorf("the other has %d, the one that hoards %d after %d; want 2 for the other", r.waits("other"), r.waits("deaf"), had)
	}
}
