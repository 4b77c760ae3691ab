package bundle

import (
	"testing"

	"github.com/farhop/farhop/routing/addr"
)

func TestIDText(t *testing.T) {
	for c := range Class(NumClasses) {
		id := ID{addr.MustNode("luna-1"), NewSequence(0x9f3a2, c, 57)}
		got, err := ParseID(id.String())
		if err != nil || got != id {
			t.Errorf("%s parsed as %v, %v", id, got, err)
		}
		if s := id.Seq; s.Incarnation() != 0x9f3a2 || s.Class() != c || s.Count() != 57 {
			t.Errorf("sequence %x unpacks to %x %v %d", uint64(s), s.Incarnation(), s.Class(), s.Count())
		}
	}
	for _, s := range []string{"", "a", "a.b.c", "luna.9f3a2.x57", "luna.9f3a2.t", "luna.zz.t5", "luna.1.t5.6", "LUNA.1.t5"} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("ParseID(%q) = %v, want an error", s, id)
		}
	}
}

func TestNames(t *testing.T) {
	for c := range Class(NumClasses) {
		if got, err := ParseClass(c.String()); err != nil || got != c {
			t.Errorf("class %d: %v, %v", c, got, err)
		}
	}
	seen := map[string]bool{}
	for r := range Reason(NumReasons) {
		if s := r.String(); s == "" || seen[s] {
			t.Errorf("reason %d has the name %q", r, s)
		} else {
			seen[s] = true
		}
	}
}
