package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Limits of a list of quotas.
const (
	MaxQuotas = 256
	maxGlob   = 256 // bytes of one pattern
)

// Each says whether a quota is one account or many.
type Each uint8

// The choices. EachNone is the zero value.
const (
	EachNone   Each = iota // all that match share one account
	EachClient             // every client has its own
	EachPeer               // every neighbour has its own
)

var eachNames = []string{"none", "client", "peer"}

// Quota limits what one node keeps for others: Bytes of payloads, Count of
// messages, or both, 0 being no limit of that kind. A message is charged to
// every quota all of whose match fields match it; a field left out matches
// anything, so that a quota without any is for all that is stored.
//
// Messages come from two sides. A quota with Client or EachClient is for those
// published at this node alone, one with Peer or EachPeer for those that a
// neighbour hands over alone; no message is both.
type Quota struct {
	Name string // unique in its list; see ValidName

	Client   string       // client ids, where '*' stands for any text
	Topic    string       // MQTT topic filter; what has no topic does not match
	Region   addr.Region  // a recipient lies in it
	Class    bundle.Class // in force if HasClass
	HasClass bool
	Peer     string // names of the neighbours that hand over, where '*' stands for any text

	Each  Each
	Bytes int64 // of payloads, 0: not limited
	Count int   // messages, 0: not limited
}

// local and remote tell the side the quota is for; neither is both.
func (q Quota) local() bool  { return q.Client != "" || q.Each == EachClient }
func (q Quota) remote() bool { return q.Peer != "" || q.Each == EachPeer }

// String tells in one line what the quota does.
func (q Quota) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", q.Name)
	sep, next := " ", ", "
	part := func(format string, args ...any) {
		fmt.Fprintf(&b, sep+format, args...)
		sep = next
	}
	if q.Client != "" {
		part("client %s", q.Client)
	}
	if q.Topic != "" {
		part("topic %s", q.Topic)
	}
	if !q.Region.IsZero() {
		part("to region %s", q.Region)
	}
	if q.HasClass {
		part("class %s", q.Class)
	}
	if q.Peer != "" {
		part("from peer %s", q.Peer)
	}
	if sep == " " {
		part("everything")
	}
	sep, next = "; ", "; "
	if q.Each != EachNone {
		part("each %s", q.Each)
	}
	if q.Bytes != 0 {
		part("at most %d bytes", q.Bytes)
	}
	if q.Count != 0 {
		part("at most %d messages", q.Count)
	}
	return b.String()
}

// QuotaFault is one thing wrong with one quota. Field is "name", "match",
// "client", "topic", "region", "class", "peer", "each", "max_bytes" or
// "max_messages"; "" for the quota, or the list, as a whole.
type QuotaFault Fault

// Error names the quota by its name, or by its position if it has none.
func (f QuotaFault) Error() string { return Fault(f).text("quota") }

// CheckQuotas returns all that is wrong with a list of quotas, in its order;
// nil means that NewQuotas accepts it.
func CheckQuotas(quotas []Quota) []QuotaFault {
	if len(quotas) > MaxQuotas {
		return []QuotaFault{{
			Index: MaxQuotas, Name: quotas[MaxQuotas].Name,
			Problem: fmt.Sprintf("the list has %d quotas, more than %d; join quotas with each: client or each: peer", len(quotas), MaxQuotas),
		}}
	}
	var faults []QuotaFault
	seen := make(map[string]int, len(quotas))
	for i, q := range quotas {
		add := func(field, format string, args ...any) {
			faults = append(faults, QuotaFault{i, q.Name, field, fmt.Sprintf(format, args...)})
		}
		if err := ValidName(q.Name); err != nil {
			add("name", "%v; give every quota a short name of its own", err)
		} else if first, dup := seen[q.Name]; dup {
			add("name", "quota %d has this name already; rename one", first+1)
		} else {
			seen[q.Name] = i
		}
		q.checkMatch(add)
		q.checkLimits(add)
	}
	return faults
}

func (q Quota) checkMatch(add addFault) {
	switch {
	case q.Topic == "":
	case strings.HasPrefix(q.Topic, "$"):
		add("topic", "%q starts with '$', and such topics are the node's own; remove the quota", q.Topic)
	default:
		if err := interest.ValidFilter(q.Topic); err != nil {
			add("topic", "%v; write an MQTT topic filter such as plant/+/temp or plant/#", err)
		}
	}
	if err := validClientGlob(q.Client); err != nil {
		add("client", "%v; write a client id such as plc-7 or plc-*", err)
	}
	if err := validNodeGlob(q.Peer); err != nil {
		add("peer", "%v; write a node name such as relay-1 or relay-*", err)
	}
	switch {
	case !q.HasClass:
	case q.Class == bundle.Control:
		add("class", "control is for the mesh itself, which no quota limits; the most urgent class of a quota is alarm")
	case q.Class >= bundle.NumClasses:
		add("class", "unknown class %d; want alarm, interactive, telemetry or bulk", q.Class)
	}
	if int(q.Each) >= len(eachNames) {
		add("each", "unknown value %d; want none, client or peer", q.Each)
	}
	switch {
	case !q.local() || !q.remote():
	case q.Client != "" && q.Peer != "":
		add("match", "matches nothing: what a client publishes here no peer hands over; make two quotas of it, one with client and one with peer")
	case q.Each == EachClient:
		add("each", "client, but what a peer hands over has no client here; write peer, or match a client instead of a peer")
	default:
		add("each", "peer, but what a client publishes here no peer hands over; write client, or match a peer instead of a client")
	}
}

func (q Quota) checkLimits(add addFault) {
	if q.Bytes < 0 {
		add("max_bytes", "%d is negative; leave it out for no limit", q.Bytes)
	}
	if q.Count < 0 {
		add("max_messages", "%d is negative; leave it out for no limit", q.Count)
	}
	if q.Bytes == 0 && q.Count == 0 {
		add("", "limits nothing; set max_bytes, max_messages or both")
	}
}

// ErrGlob is the cause of the refusals of patterns.
var ErrGlob = errors.New("invalid pattern")

func validClientGlob(s string) error {
	switch {
	case len(s) > maxGlob:
		return fmt.Errorf("%w: longer than %d bytes", ErrGlob, maxGlob)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: not UTF-8", ErrGlob)
	case strings.IndexByte(s, 0) >= 0: // no client has one (MQTT 5, 1.5.4)
		return fmt.Errorf("%w: has a NUL", ErrGlob)
	}
	return nil
}

func validNodeGlob(s string) error {
	if len(s) > maxGlob {
		return fmt.Errorf("%w: longer than %d bytes", ErrGlob, maxGlob)
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '*' {
			return fmt.Errorf("%w: %q is not one of a-z 0-9 - _ *", ErrGlob, c)
		}
	}
	return nil
}

// String returns the name used in configuration.
func (e Each) String() string { return nameOf(eachNames, e) }

// MarshalText implements encoding.TextMarshaler.
func (e Each) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *Each) UnmarshalText(b []byte) error { return unmarshal(eachNames, e, b) }
