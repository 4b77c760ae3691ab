package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/farhop/farhop/routing/interest"
)

// Limits of one access list.
const (
	MaxAccessRules = 100_000
	MaxFrom        = 64  // patterns of one rule
	MaxFilters     = 256 // filters of one rule and direction
	maxRuleName    = 256 // bytes
)

// Action is what an access rule does.
type Action uint8

// The choices. The zero value is none of them: a rule that forgot its action
// must not do anything. Deny goes before Allow, whatever their order; Shadow
// decides nothing and is only told: a rule that is tried before it is in force.
const (
	Allow Action = iota + 1
	Deny
	Shadow
)

var actionNames = []string{"allow", "deny", "shadow"}

// AccessRule says who may publish what and subscribe to what. A rule is for a
// client if one entry of From fits it:
//
//	spiffe://acme/ops/*   SPIFFE ids of its certificate
//	name:*.plant.acme     other names of its certificate: DNS names, common name
//	user:alice            the user it came in as; "user:" alone: came in without one
//	client:plc-*          its client id, which it chose itself unless that was checked
//	label:site=hall-3     an attribute that came with its password, token or certificate
//	*                     every client
//
// where '*' stands for any text, '/' too. Publish and Subscribe are MQTT topic
// filters. In them ${client.id}, ${user}, ${name} (the first name of the
// certificate; of a SPIFFE id what follows the last '/') and ${attr.NAME} stand
// for the client's own value. A value never brings levels or wildcards: see
// Grants.
type AccessRule struct {
	Name      string // for messages, such as a file and line; "" for its position
	Action    Action
	From      []string
	Publish   []string
	Subscribe []string
}

// Who is a client to the access rules. All but Client is verified by whoever
// let it in.
type Who struct {
	Client     string
	User       string            // "" for none
	Names      []string          // of its certificate
	Attributes map[string]string // nil for none
}

// Name returns what ${name} stands for, "" if there is no name.
func (w *Who) Name() string {
	if len(w.Names) == 0 {
		return ""
	}
	return ShortName(w.Names[0])
}

// ShortName returns what follows the last '/' of a SPIFFE id, and any other
// name as it is.
func ShortName(name string) string {
	if !strings.HasPrefix(name, spiffe) {
		return name
	}
	return name[strings.LastIndexByte(name, '/')+1:]
}

const spiffe = "spiffe://"

// AccessFault is one thing wrong with one access rule. Field is "name",
// "action", "from", "publish" or "subscribe"; "" for the rule, or the list, as
// a whole.
type AccessFault Fault

// Error names the rule by its name, or by its position if it has none.
func (f AccessFault) Error() string { return Fault(f).text("access rule") }

// CheckAccess returns all that is wrong with a list of access rules, in its
// order; nil means that NewAccess accepts it.
func CheckAccess(rules []AccessRule) []AccessFault {
	if len(rules) > MaxAccessRules {
		return []AccessFault{{
			Index: MaxAccessRules, Name: rules[MaxAccessRules].Name,
			Problem: fmt.Sprintf("the list has %d rules, more than %d; join rules with ${client.id}, ${user} or labels", len(rules), MaxAccessRules),
		}}
	}
	var faults []AccessFault
	for i, r := range rules {
		r.check(func(field, format string, args ...any) {
			faults = append(faults, AccessFault{i, r.Name, field, fmt.Sprintf(format, args...)})
		})
	}
	return faults
}

func (r AccessRule) check(add addFault) {
	if len(r.Name) > maxRuleName || !utf8.ValidString(r.Name) {
		add("name", "is longer than %d bytes or not UTF-8; write a short one", maxRuleName)
	}
	switch {
	case r.Action == 0:
		add("action", "is missing; write allow, deny or shadow")
	case int(r.Action) > len(actionNames):
		add("action", "unknown value %d; want allow, deny or shadow", r.Action)
	}
	switch {
	case len(r.From) == 0:
		add("from", "is missing; write whom the rule is for, or \"*\" for everyone")
	case len(r.From) > MaxFrom:
		add("from", "%d entries, more than %d; use '*' or labels", len(r.From), MaxFrom)
	}
	for _, s := range r.From {
		if _, err := parseFrom(s); err != nil {
			add("from", "%v", err)
		}
	}
	if len(r.Publish)+len(r.Subscribe) == 0 {
		add("", "is about no topic; set publish, subscribe or both")
	}
	checkFilters(add, "publish", r.Publish)
	checkFilters(add, "subscribe", r.Subscribe)
}

func checkFilters(add addFault, field string, filters []string) {
	if len(filters) > MaxFilters {
		add(field, "%d filters, more than %d; join them by wider ones", len(filters), MaxFilters)
	}
	for _, f := range filters {
		if _, err := parseTemplate(f); err != nil {
			add(field, "%v", err)
		}
	}
}

// fromKind says which property of a client an entry of From looks at.
type fromKind uint8

const (
	fromAny fromKind = iota
	fromSPIFFE
	fromName
	fromUser
	fromClient
	fromLabel
)

// from is a compiled entry of AccessRule.From.
type from struct {
	kind  fromKind
	label string // key of a label
	match glob
}

func parseFrom(s string) (from, error) {
	bad := func(why string) (from, error) {
		return from{}, fmt.Errorf("%.200q: %w: %s; write *, spiffe://..., name:..., user:..., client:... or label:KEY=VALUE", s, ErrGlob, why)
	}
	if err := validClientGlob(s); err != nil {
		return from{}, fmt.Errorf("%.200q: %w; write a shorter pattern with '*'", s, err)
	}
	if s == "*" {
		return from{kind: fromAny}, nil
	}
	if strings.HasPrefix(s, spiffe) {
		return from{kind: fromSPIFFE, match: newGlob(s)}, nil
	}
	kind, rest, ok := strings.Cut(s, ":")
	if !ok {
		return bad("does not say what it is a pattern of")
	}
	switch kind {
	case "name":
		return from{kind: fromName, match: newGlob(rest)}, nil
	case "user":
		return from{kind: fromUser, match: newGlob(rest)}, nil
	case "client":
		return from{kind: fromClient, match: newGlob(rest)}, nil
	case "label":
		key, value, ok := strings.Cut(rest, "=")
		if !ok || key == "" {
			return bad("has no '=' with a key before it")
		}
		return from{kind: fromLabel, label: key, match: newGlob(value)}, nil
	}
	return bad("unknown kind")
}

// fits reports whether the client is meant.
func (f *from) fits(w *Who) bool {
	switch f.kind {
	case fromAny:
		return true
	case fromSPIFFE:
		return slices.ContainsFunc(w.Names, f.match.matches)
	case fromName:
		return slices.ContainsFunc(w.Names, func(n string) bool {
			return !strings.HasPrefix(n, spiffe) && f.match.matches(n)
		})
	case fromUser:
		// "user:*" is for those who have a name, "user:" for those who have none.
		if w.User == "" {
			return !f.match.star && f.match.first == ""
		}
		return f.match.matches(w.User)
	case fromClient:
		return f.match.matches(w.Client)
	case fromLabel:
		v, ok := w.Attributes[f.label]
		return ok && f.match.matches(v)
	}
	return false
}

// user returns the one user the entry is for.
func (f *from) user() (string, bool) {
	return f.match.first, f.kind == fromUser && !f.match.star
}

// overlaps reports whether some topic is matched by both of two valid filters.
func overlaps(a, b string) bool {
	if a == "" || b == "" || a[0] == '$' && isWild(b[0]) || b[0] == '$' && isWild(a[0]) {
		return false // MQTT 5, 4.7.2
	}
	for {
		x, aRest, aMore := strings.Cut(a, "/")
		y, bRest, bMore := strings.Cut(b, "/")
		switch {
		case x == "#" || y == "#":
			return true
		case x != "+" && y != "+" && x != y:
			return false
		case aMore && bMore:
			a, b = aRest, bRest
		case aMore:
			return aRest == "#"
		case bMore:
			return bRest == "#"
		default:
			return true
		}
	}
}

func isWild(c byte) bool { return c == '+' || c == '#' }

// shareless refuses filters that the rules never see.
func shareless(filter string) error {
	if filter == "$share" || strings.HasPrefix(filter, "$share/") {
		return fmt.Errorf("filter %.80q: %w: rules see shared subscriptions without their $share/GROUP/; leave it out", filter, interest.ErrSyntax)
	}
	return nil
}

// String returns the name used in configuration, "" for the zero value.
func (a Action) String() string {
	if a == 0 {
		return ""
	}
	return nameOf(actionNames, a-1)
}

// MarshalText implements encoding.TextMarshaler.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Action) UnmarshalText(b []byte) error {
	var i Action
	if err := unmarshal(actionNames, &i, b); err != nil {
		return err
	}
	*a = i + 1
	return nil
}
