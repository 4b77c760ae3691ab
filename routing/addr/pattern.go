package addr

import (
	"fmt"
	"strconv"
	"strings"
)

// Pattern matches endpoint ids: ipn:2.*, ipn:*.7, dtn://hdtn/**. In a dtn
// pattern * stands for any text without a slash and ** for any text.
type Pattern struct {
	text      string
	ipn       bool
	node, svc uint64
	anyNode   bool
	anySvc    bool
	parts     []string // dtn: literals between stars, as in split
	deep      []bool   // deep[i]: the star before parts[i+1] is **
}

// ParsePattern reads a pattern.
func ParsePattern(s string) (Pattern, error) {
	p := Pattern{text: s}
	if rest, ok := strings.CutPrefix(s, "ipn:"); ok {
		a, b, dot := strings.Cut(rest, ".")
		var err1, err2 error
		if p.ipn, p.anyNode = true, a == "*"; !p.anyNode {
			p.node, err1 = strconv.ParseUint(a, 10, 64)
		}
		if p.anySvc = b == "*"; !p.anySvc {
			p.svc, err2 = strconv.ParseUint(b, 10, 64)
		}
		if !dot || err1 != nil || err2 != nil {
			return Pattern{}, fmt.Errorf("pattern %q: want ipn:NODE.SERVICE, each a number or *", s)
		}
		return p, nil
	}
	rest, ok := strings.CutPrefix(s, "dtn:")
	whole := rest
	if strings.HasSuffix(rest, "**") {
		whole += "/" // ** stands for a service, too
	}
	if _, err := DTN(whole); !ok || err != nil || rest == "none" {
		return Pattern{}, fmt.Errorf("pattern %q: want dtn://NODE/SERVICE or ipn:NODE.SERVICE, with * and **", s)
	}
	for len(p.deep) <= maxStars {
		i := strings.IndexByte(rest, '*')
		if i < 0 {
			p.parts = append(p.parts, rest)
			return p, nil
		}
		deep := strings.HasPrefix(rest[i:], "**")
		p.parts, p.deep = append(p.parts, rest[:i]), append(p.deep, deep)
		rest = strings.TrimLeft(rest[i:], "*")
	}
	return Pattern{}, fmt.Errorf("pattern %q: more than %d stars", s, maxStars)
}

// Two stars over a name of limited length keep matching cheap.
const (
	maxStars = 2
	maxMatch = 1024
)

// String returns the text that was parsed.
func (p Pattern) String() string { return p.text }

// MarshalText implements encoding.TextMarshaler.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.text), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Pattern) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePattern(string(b))
	return err
}

// Match reports whether e is one of the pattern's endpoints. The zero Pattern
// matches nothing.
func (p Pattern) Match(e EID) bool {
	if p.ipn {
		node, svc := e.Numbers()
		return e.Scheme() == SchemeIPN && (p.anyNode || node == p.node) && (p.anySvc || svc == p.svc)
	}
	if e.Scheme() != SchemeDTN || len(p.parts) == 0 || len(e.SSP()) > maxMatch {
		return false
	}
	rest, ok := strings.CutPrefix(e.SSP(), p.parts[0])
	return ok && glob(rest, p.parts[1:], p.deep)
}

// glob matches s against star, part, star, part ...; a part that is the last
// has to end s.
func glob(s string, parts []string, deep []bool) bool {
	if len(parts) == 0 {
		return s == ""
	}
	for i := 0; i <= len(s); i++ {
		if rest, ok := strings.CutPrefix(s[i:], parts[0]); ok {
			if len(parts) == 1 && parts[0] == "" && (deep[0] || !strings.Contains(s, "/")) {
				return true
			}
			if glob(rest, parts[1:], deep[1:]) {
				return true
			}
		}
		if i < len(s) && s[i] == '/' && !deep[0] {
			return false
		}
	}
	return false
}

// Weight orders patterns: the more it pins down, the heavier.
func (p Pattern) Weight() int {
	if p.ipn {
		n := 0
		if !p.anyNode {
			n += 2
		}
		if !p.anySvc {
			n++
		}
		return n
	}
	n := 0
	for _, s := range p.parts {
		n += len(s)
	}
	return n
}
