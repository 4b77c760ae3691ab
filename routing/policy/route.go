// Package policy decides what an operator wants of a message or a stream: to
// which regions it goes, with which class and lifetime, what happens when they
// cannot be reached, and against whose quotas it counts.
//
// It owns Route and Table, Quota and Quotas, and explains its verdicts. It
// never looks at links or subscribers: which nodes are meant and how they are
// reached is the work of package routing; and it counts nothing: what is
// stored on an account, only package storeforward knows. Everything here is a
// pure value; a Table does not change once it is built and may be read by many
// goroutines, Quotas by one. Callers are node/core, node and node/config.
package policy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Limits of one table.
const (
	MaxRoutes = 1024
	MaxTo     = 64                        // regions of one route
	MaxTTL    = 10 * 365 * 24 * time.Hour // longer is a typing error
	maxName   = addr.MaxName
)

// Unreachable says what becomes of a message whose destination cannot be
// reached now.
type Unreachable uint8

// The choices. Store is the zero value: what is acknowledged is kept.
const (
	Store Unreachable = iota // keep it until it can be sent or expires
	Drop                     // end it at once as bundle.NoRoute, counted
)

var unreachableNames = []string{"store", "drop"}

// OnFull says what becomes of a message when the store has no room for it.
type OnFull uint8

// The choices. Refuse is the zero value: nothing acknowledged is evicted.
const (
	Refuse     OnFull = iota // refuse the new message before it is acknowledged
	DropOldest               // evict the oldest messages of the same route
)

var onFullNames = []string{"refuse", "drop-oldest"}

// Route is one rule. Exactly one of Topic and Service is set.
type Route struct {
	Name    string // unique in its table; see ValidName
	Topic   string // MQTT topic filter of the messages it is for
	Service string // name of the TCP service whose streams it is for

	// To lists the regions that get the messages even if nobody there
	// subscribes yet; for a service, the regions whose endpoints may be used.
	// None means: wherever a subscriber or an endpoint is.
	To []addr.Region

	Unreachable Unreachable
	OnFull      OnFull

	Class    bundle.Class  // in force if HasClass
	HasClass bool          // false: the class the message came with
	TTL      time.Duration // lifetime if the publisher gave none, 0: the node's default
}

// String tells in one line what the route does.
func (r Route) String() string {
	var b strings.Builder
	what := "topic " + r.Topic
	if r.Service != "" {
		what = "service " + r.Service
	}
	fmt.Fprintf(&b, "%s: %s", r.Name, what)
	for i, to := range r.To {
		b.WriteString([]string{" to ", ", "}[min(i, 1)])
		b.WriteString(to.String())
	}
	fmt.Fprintf(&b, "; unreachable: %s", r.Unreachable)
	if r.OnFull != Refuse {
		fmt.Fprintf(&b, "; on full: %s", r.OnFull)
	}
	if r.HasClass {
		fmt.Fprintf(&b, "; class %s", r.Class)
	}
	if r.TTL != 0 {
		fmt.Fprintf(&b, "; ttl %s", r.TTL)
	}
	return b.String()
}

// ErrName is the cause of the refusals of ValidName.
var ErrName = errors.New("invalid name")

// ValidName says why s cannot be the name of a route or a service, or nil: 1
// to 63 of a-z, 0-9, '-' and '_', not starting with '-'. Names appear in
// metrics, in endpoint identifiers and on command lines.
func ValidName(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: empty", ErrName)
	case len(s) > maxName:
		return fmt.Errorf("%w: longer than %d bytes", ErrName, maxName)
	case s[0] == '-':
		return fmt.Errorf("%w: starts with '-'", ErrName)
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("%w: %q is not one of a-z 0-9 - _", ErrName, c)
		}
	}
	return nil
}

// Fault is one thing wrong with one route.
type Fault struct {
	Index   int    // position of the route in its list, from 0
	Name    string // of the route, may be empty or wrong
	Field   string // "name", "match", "topic", "service", "to", "class", "ttl", "unreachable" or "on_full"; "" for the list as a whole
	Problem string // what is wrong and what to do
}

// Error names the route by its name, or by its position if it has none.
func (f Fault) Error() string { return f.text("route") }

func (f Fault) text(what string) string {
	who := fmt.Sprintf("%s %q", what, f.Name)
	if f.Name == "" {
		who = fmt.Sprintf("%s %d", what, f.Index+1)
	}
	if f.Field != "" {
		who += ": " + f.Field
	}
	return who + ": " + f.Problem
}

// Check returns all that is wrong with a list of routes, in its order; nil
// means that NewTable accepts it.
func Check(routes []Route) []Fault {
	if len(routes) > MaxRoutes {
		return []Fault{{
			Index: MaxRoutes, Name: routes[MaxRoutes].Name,
			Problem: fmt.Sprintf("the table has %d routes, more than %d; join routes by wider filters", len(routes), MaxRoutes),
		}}
	}
	var faults []Fault
	seen := make(map[string]int, len(routes))
	for i, r := range routes {
		add := func(field, format string, args ...any) {
			faults = append(faults, Fault{i, r.Name, field, fmt.Sprintf(format, args...)})
		}
		if err := ValidName(r.Name); err != nil {
			add("name", "%v; give every route a short name of its own", err)
		} else if first, dup := seen[r.Name]; dup {
			add("name", "route %d has this name already; rename one", first+1)
		} else {
			seen[r.Name] = i
		}
		r.checkMatch(add)
		r.checkTo(add)
		r.checkDelivery(add)
	}
	return faults
}

type addFault func(field, format string, args ...any)

func (r Route) checkMatch(add addFault) {
	switch {
	case r.Topic == "" && r.Service == "":
		add("match", "matches nothing; set a topic or a service")
	case r.Topic != "" && r.Service != "":
		add("match", "has both a topic and a service; make two routes of it")
	case r.Service != "":
		if err := ValidName(r.Service); err != nil {
			add("service", "%v; write the name of a service", err)
		}
	case strings.HasPrefix(r.Topic, "$"):
		add("topic", "%q starts with '$', and such topics never leave their node; remove the route", r.Topic)
	default:
		if err := interest.ValidFilter(r.Topic); err != nil {
			add("topic", "%v; write an MQTT topic filter such as plant/+/temp or plant/#", err)
		}
	}
}

// checkTo refuses regions within regions: it would not be clear which node
// gets how many copies.
func (r Route) checkTo(add addFault) {
	if len(r.To) > MaxTo {
		add("to", "%d regions, more than %d; name a region that contains them", len(r.To), MaxTo)
		return
	}
	for i, a := range r.To {
		if a.IsZero() {
			add("to", "region %d is empty; write its path, such as earth/eu", i+1)
		}
		for j, b := range r.To {
			if i != j && a.Contains(b) && (a != b || i < j) {
				add("to", "%s lies in %s already; remove it", b, a)
			}
		}
	}
}

func (r Route) checkDelivery(add addFault) {
	if int(r.Unreachable) >= len(unreachableNames) {
		add("unreachable", "unknown value %d; want store or drop", r.Unreachable)
	}
	if int(r.OnFull) >= len(onFullNames) {
		add("on_full", "unknown value %d; want refuse or drop-oldest", r.OnFull)
	}
	switch {
	case !r.HasClass:
	case r.Class == bundle.Control:
		add("class", "control is for the mesh itself; the most urgent class of a route is alarm")
	case r.Class >= bundle.NumClasses:
		add("class", "unknown class %d; want alarm, interactive, telemetry or bulk", r.Class)
	}
	switch {
	case r.TTL < 0:
		add("ttl", "%s is negative; leave it out for the node's default", r.TTL)
	case r.TTL > MaxTTL:
		add("ttl", "%s is more than ten years; write less", r.TTL)
	}
}

// String returns the name used in configuration.
func (u Unreachable) String() string { return nameOf(unreachableNames, u) }

// MarshalText implements encoding.TextMarshaler.
func (u Unreachable) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *Unreachable) UnmarshalText(b []byte) error { return unmarshal(unreachableNames, u, b) }

// String returns the name used in configuration.
func (o OnFull) String() string { return nameOf(onFullNames, o) }

// MarshalText implements encoding.TextMarshaler.
func (o OnFull) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *OnFull) UnmarshalText(b []byte) error { return unmarshal(onFullNames, o, b) }

func nameOf[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown-%d", v)
}

func unmarshal[T ~uint8](names []string, dst *T, b []byte) error {
	for i, name := range names {
		if string(b) == name {
			*dst = T(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not one of %s", b, strings.Join(names, ", "))
}
