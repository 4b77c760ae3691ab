package scenario

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// FaultKind says what goes wrong.
type FaultKind string

// The kinds of faults, and what they use of a Fault.
const (
	Crash     FaultKind = "crash"     // Node, At, For, Torn, On, Nth: power fails; what was not synced is lost
	Full      FaultKind = "full"      // Node, At, For: the disk has no room for messages
	Fail      FaultKind = "fail"      // Node, At: the next commit fails, and the disk takes no more until a restart
	Slow      FaultKind = "slow"      // Node, At, For, By: a sync takes By
	Clock     FaultKind = "clock"     // Node, At, By: the clock steps; backwards only with the next restart
	Cut       FaultKind = "cut"       // Link, At, For, Way: nothing passes; who sends does not learn of it
	Reset     FaultKind = "reset"     // Link, At: the session ends at both ends, with all that is in flight
	Duplicate FaultKind = "duplicate" // Link, At: a transfer comes twice, against the transport's promise
	Reorder   FaultKind = "reorder"   // Link, At: a transfer is overtaken, against the transport's promise
	Away      FaultKind = "away"      // Client, At, For: a device has no connection
	Clean     FaultKind = "clean"     // Client, At: a device starts anew, without its session
	Damage    FaultKind = "damage"    // Node, At, Nth, For: so many stored messages cannot be read any more; with For, once there are some, and the power fails too
	Purge     FaultKind = "purge"     // Node, At, Queue, Class, By, From: an operator ends messages, those older than By
	Retry     FaultKind = "retry"     // Node, At: an operator lets everything that rests go at once
)

// kinds lists them all.
func kinds() []FaultKind {
	return []FaultKind{Crash, Full, Fail, Slow, Clock, Cut, Reset, Duplicate, Reorder, Away, Clean, Damage, Purge, Retry}
}

// Triggers of a Crash: the Nth time after At that the node does this. The
// frame or answer that fired it is not sent.
const (
	OnReceive = "receive" // took in a transfer; nothing of it is synced
	OnStage   = "stage"   // gave a batch with messages to the store
	OnSync    = "sync"    // such a batch became durable; nobody was told
	OnAck     = "ack"     // is about to acknowledge custody
	OnReply   = "reply"   // is about to acknowledge a publish
	OnOffer   = "offer"   // is about to deliver to a device
	OnRelease = "release" // had custody acknowledged by a peer
)

func triggers() []string {
	return []string{OnReceive, OnStage, OnSync, OnAck, OnReply, OnOffer, OnRelease}
}

// OneMessage is the Queue of a Purge that ends one message, wherever it is.
// The other names stand for the fullest queue of their kind, "" for all
// queues.
const OneMessage = "one"

// The ways of a Cut.
const (
	Both  = ""      // both directions
	There = "there" // from the first end of the link to the second
	Back  = "back"  // the other way
)

// Fault is one thing that goes wrong.
type Fault struct {
	Kind   FaultKind `yaml:"kind"`
	Node   string    `yaml:"node,omitempty"`
	Link   [2]string `yaml:"link,omitempty,flow"`
	Client string    `yaml:"client,omitempty"`
	At     Duration  `yaml:"at"`
	For    Duration  `yaml:"for,omitempty"`
	By     Shift     `yaml:"by,omitempty"`
	Way    string    `yaml:"way,omitempty"`
	Torn   bool      `yaml:"torn,omitempty"` // some of the oldest unsynced batches survive
	On     string    `yaml:"on,omitempty"`
	Nth    int       `yaml:"nth,omitempty"` // default 1
	Queue  string    `yaml:"queue,omitempty"`
	Class  string    `yaml:"class,omitempty"`
	From   string    `yaml:"from,omitempty"` // node the messages entered at
}

// String is one line for people.
func (f Fault) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", f.Kind)
	for _, who := range []string{f.Node, f.Client} {
		if who != "" {
			b.WriteString(" " + who)
		}
	}
	if f.Link[0] != "" {
		b.WriteString(" " + f.Link[0] + "-" + f.Link[1])
	}
	fmt.Fprintf(&b, " at %s", f.At)
	if f.On != "" {
		fmt.Fprintf(&b, " on %s %d", f.On, max(f.Nth, 1))
	}
	if f.For > 0 {
		fmt.Fprintf(&b, " for %s", f.For)
	}
	if f.By != 0 {
		fmt.Fprintf(&b, " by %s", f.By)
	}
	if f.Way != "" {
		b.WriteString(" " + f.Way)
	}
	for _, what := range []string{f.Queue, f.Class, f.From} {
		if what != "" {
			b.WriteString(" of " + what)
		}
	}
	if f.Torn {
		b.WriteString(" torn")
	}
	return b.String()
}

func (v *validator) faults(w *World) {
	clients, links := map[string]bool{}, map[[2]string]bool{}
	for _, s := range w.Subscribers {
		clients[s.Client] = true
	}
	for _, l := range w.Links {
		links[l.Between] = true
	}
	for i, f := range w.Faults {
		at := fmt.Sprintf("faults[%d]", i)
		switch f.Kind {
		case Crash, Full, Fail, Slow, Clock, Damage, Purge, Retry:
			v.node(at, f.Node)
			v.operator(at, &w.Faults[i])
		case Cut, Reset, Duplicate, Reorder:
			if !links[f.Link] {
				v.bad("%s: no link is between %s and %s, in this order", at, f.Link[0], f.Link[1])
			}
		case Away, Clean:
			if !clients[f.Client] {
				v.bad("%s: no subscriber is called %q", at, f.Client)
			}
		default:
			v.bad("%s: kind %q: want one of %v", at, f.Kind, kinds())
		}
		if f.On != "" && !slices.Contains(triggers(), f.On) {
			v.bad("%s: on %q: want one of %s", at, f.On, strings.Join(triggers(), ", "))
		}
		if !slices.Contains([]string{Both, There, Back}, f.Way) {
			v.bad("%s: way %q: want there, back, or none for both", at, f.Way)
		}
		if f.Kind == Slow && f.By <= 0 {
			v.bad("%s: want the time of a sync, such as by: 2s", at)
		}
	}
}

// Text returns the world as YAML that Parse reads back.
func (w *World) Text() ([]byte, error) { return yaml.Marshal(w) }
