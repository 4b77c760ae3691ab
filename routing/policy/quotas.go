package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Subject is what a message is to the quotas.
type Subject struct {
	Client  string // that published it here; not looked at if Peer is set
	Topic   string // "" for what is not MQTT, or cannot be read here
	Class   bundle.Class
	Peer    addr.Node     // the neighbour that hands it over, zero if it was published here
	Regions []addr.Region // where its recipients are
}

// Charge is one account that a message is charged to.
type Charge struct {
	// Key names the account: the name of the quota, or that, a '/' and the
	// client or peer. It has at most MaxKey bytes, is valid UTF-8 without
	// control characters, and stays the same while the quota has its name, so
	// it may be kept on disk.
	Key   string
	Quota *Quota // its limits, not to be changed
}

// MaxKey is the longest Key of a Charge, in bytes.
const MaxKey = maxName + 1 + maxWho

const (
	maxWho     = 64   // bytes of a client or peer in a key; longer ones are cut and marked
	maxKeys    = 4096 // keys remembered
	maxKeyText = 1024 // bytes of a client whose key is remembered
)

// Quotas finds the accounts of a message. Unlike a Table it is for one
// goroutine only: it remembers what it computed. The zero Quotas charges
// nothing.
type Quotas struct {
	list   []Quota
	match  []matcher
	topics interest.Trie[int] // filter -> index

	round  uint64    // of Charges
	hit    []uint64  // index -> the last round in which its topic matched
	visit  func(int) // marks a hit; made once, Charges shall not allocate it
	remote bool      // there is a quota for what neighbours hand over
	keys   map[account]string
}

// matcher is what is compiled of one Quota.
type matcher struct {
	client, peer glob
	topic        bool // hit decides
}

// account is a quota and who of its clients or peers.
type account struct {
	quota int
	who   string
}

// NewQuotas checks the quotas and compiles them. The error joins every
// QuotaFault of CheckQuotas.
func NewQuotas(quotas []Quota) (*Quotas, error) {
	if faults := CheckQuotas(quotas); len(faults) > 0 {
		errs := make([]error, len(faults))
		for i, f := range faults {
			errs[i] = f
		}
		return nil, errors.Join(errs...)
	}
	n := len(quotas)
	q := &Quotas{list: slices.Clone(quotas), match: make([]matcher, n), hit: make([]uint64, n), keys: make(map[account]string)}
	q.visit = func(i int) { q.hit[i] = q.round }
	for i := range q.list {
		c := &q.list[i]
		q.match[i] = matcher{newGlob(c.Client), newGlob(c.Peer), c.Topic != ""}
		q.remote = q.remote || !c.local()
		if c.Topic != "" {
			q.topics.Add(c.Topic, i)
		}
	}
	return q, nil
}

// Empty reports whether there is no quota: nothing is ever charged.
func (q *Quotas) Empty() bool { return len(q.list) == 0 }

// List returns a copy of the list the quotas were built from.
func (q *Quotas) List() []Quota { return slices.Clone(q.list) }

// Charges appends the accounts of a message to into, in the listed order of
// their quotas. It allocates only for keys it has not made lately. Bundles of
// the class control are charged to none: a full account must not keep a
// revision from a node.
func (q *Quotas) Charges(s *Subject, into []Charge) []Charge {
	if len(q.list) == 0 || s.Class == bundle.Control || !s.Peer.IsZero() && !q.remote {
		return into
	}
	q.round++
	if q.topics.Len() > 0 && s.Topic != "" {
		q.topics.Match(s.Topic, q.visit)
	}
	for i := range q.list {
		if !q.matches(i, s) {
			continue
		}
		c := &q.list[i]
		key := c.Name
		switch c.Each {
		case EachNone:
		case EachClient:
			key = q.key(i, s.Client)
		case EachPeer:
			key = q.key(i, s.Peer.String())
		}
		into = append(into, Charge{key, c})
	}
	return into
}

// matches compares what is cheap first.
func (q *Quotas) matches(i int, s *Subject) bool {
	c, m := &q.list[i], &q.match[i]
	switch here := s.Peer.IsZero(); {
	case here && c.remote() || !here && c.local(),
		m.topic && q.hit[i] != q.round,
		c.HasClass && c.Class != s.Class,
		c.Client != "" && !m.client.matches(s.Client),
		c.Peer != "" && !m.peer.matches(s.Peer.String()):
		return false
	}
	return c.Region.IsZero() || slices.ContainsFunc(s.Regions, c.Region.Contains)
}

// key returns the key of an account, from memory if it can. Devices come back
// with the same id, so memory that is full is simply emptied.
func (q *Quotas) key(i int, who string) string {
	if len(who) > maxKeyText {
		return q.list[i].Name + "/" + escape(who)
	}
	if k, ok := q.keys[account{i, who}]; ok {
		return k
	}
	if len(q.keys) >= maxKeys {
		clear(q.keys)
	}
	who = strings.Clone(who) // a clone: do not pin a whole packet
	k := q.list[i].Name + "/" + escape(who)
	q.keys[account{i, who}] = k
	return k
}

// escape makes a client id fit for a key: one line, printable, at most maxWho
// bytes. Different ids stay different. '%', control characters, line and
// paragraph separators, and bytes that are not UTF-8, become % and two
// hexadecimal digits each; what is too long ends in %~ and a hash of the id.
func escape(who string) string {
	if plain(who) {
		return who
	}
	var b strings.Builder
	const keep = maxWho - 2 - 16 // before %~ and 16 digits
	cut := 0                     // where to cut so that at most keep bytes stay
	for i := 0; i < len(who) && b.Len() <= maxWho; {
		r, n := utf8.DecodeRuneInString(who[i:])
		if escaped(r, n) {
			for _, c := range []byte(who[i : i+n]) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		} else {
			b.WriteString(who[i : i+n])
		}
		if i += n; b.Len() <= keep {
			cut = b.Len()
		}
	}
	if b.Len() <= maxWho {
		return b.String()
	}
	sum := sha256.Sum256([]byte(who))
	return b.String()[:cut] + "%~" + hex.EncodeToString(sum[:8])
}

// plain is the usual case of escape: short ASCII.
func plain(who string) bool {
	if len(who) > maxWho {
		return false
	}
	for i := range len(who) {
		if c := who[i]; c < ' ' || c >= 0x7f || c == '%' {
			return false
		}
	}
	return true
}

func escaped(r rune, n int) bool {
	switch {
	case r == '%', r < ' ', r >= 0x7f && r < 0xa0, r == '\u2028', r == '\u2029':
		return true
	}
	return r == utf8.RuneError && n <= 1
}

// Analyze tells, one line each, which quotas can never be reached because
// another one that all their messages count against too is reached first.
func (q *Quotas) Analyze() []string {
	var lines []string
	for i, c := range q.list {
		for j, o := range q.list {
			// Of two alike, the one listed later is the idle one.
			if i != j && o.bounds(c) && (j < i || !c.bounds(o)) {
				lines = append(lines, fmt.Sprintf("quota %s is never reached: %s counts all it counts and is full no later; raise the limits of %s or remove %s", c.Name, o.Name, o.Name, c.Name))
				break
			}
		}
	}
	return lines
}

// bounds reports whether q is full whenever c would be. Each account of c
// must lie within one of q, which may then be larger but not roomier.
func (q Quota) bounds(c Quota) bool {
	covers := (q.Client == "" || q.Client == c.Client || q.Client == "*" && c.local()) &&
		(q.Peer == "" || q.Peer == c.Peer || q.Peer == "*" && c.remote()) &&
		(q.Topic == "" || c.Topic != "" && interest.Covers(q.Topic, c.Topic)) &&
		(q.Region.IsZero() || !c.Region.IsZero() && q.Region.Contains(c.Region)) &&
		(!q.HasClass || c.HasClass && q.Class == c.Class) &&
		(q.Each == EachNone || q.Each == c.Each)
	return covers &&
		(c.Bytes == 0 || q.Bytes != 0 && q.Bytes <= c.Bytes) &&
		(c.Count == 0 || q.Count != 0 && q.Count <= c.Count)
}

// glob is a compiled pattern: the texts between the '*'.
type glob struct {
	first string   // the text must start with it
	parts []string // then, in this order, come these
	last  string   // and it must end with that
	star  bool     // false: the text must be first
}

func newGlob(s string) glob {
	parts := strings.Split(s, "*")
	n := len(parts) - 1
	if n == 0 {
		return glob{first: s}
	}
	middle := slices.DeleteFunc(slices.Clone(parts[1:n]), func(p string) bool { return p == "" })
	return glob{first: parts[0], parts: middle, last: parts[n], star: true}
}

// matches takes each part at its first place, which leaves the most text to
// those after it: no id makes it try twice.
func (g glob) matches(s string) bool {
	if !g.star {
		return s == g.first
	}
	s, ok := strings.CutPrefix(s, g.first)
	if !ok {
		return false
	}
	if s, ok = strings.CutSuffix(s, g.last); !ok {
		return false
	}
	for _, p := range g.parts {
		if _, s, ok = strings.Cut(s, p); !ok {
			return false
		}
	}
	return true
}
