package pki

import (
	"testing"
	"time"
)

// TestSigned: only what a node of this mesh signed, for this use, in the life of
// its certificate, and as itself, is good.
func TestSigned(t *testing.T) {
	a, other := newMesh(t), newMesh(t)
	luna, gw, stranger := a.node(t, "luna-1", "luna"), a.node(t, "gw-1", "earth"), other.node(t, "luna-1", "luna")
	const use, msg = "test v1", "what is signed"
	then := luna.Leaf().NotBefore.Add(time.Minute)
	signed, err := luna.Sign(use, []byte(msg))
	foreign, err2 := stranger.Sign(use, []byte(msg))
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	changed := append([]byte{}, signed...)
	changed[len(changed)-1] ^= 1
	for _, c := range []struct {
		what     string
		use, msg string
		signed   []byte
		by       *Material
		when     time.Time
		ok       bool
	}{
		{"good", use, msg, signed, luna, then, true},
		{"another use", "test v2", msg, signed, luna, then, false},
		{"another text", use, msg + "!", signed, luna, then, false},
		{"as somebody else", use, msg, signed, gw, then, false},
		{"after its life", use, msg, signed, luna, luna.Leaf().NotAfter.Add(time.Hour), false},
		{"another mesh", use, msg, foreign, luna, then, false},
		{"changed", use, msg, changed, luna, then, false},
		{"cut", use, msg, signed[:len(signed)-1], luna, then, false},
		{"nothing", use, msg, nil, luna, then, false},
	} {
		if err := gw.Trust.VerifySigned(c.use, []byte(c.msg), c.signed, c.by.Self().Node, c.when); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
