package identity

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestDualSignature(t *testing.T) {
	const ctx = "farhop fleet revision v1"
	a, b := NewDualSigner(), NewDualSigner()
	msg := []byte("revision 7")
	sig, err := a.Sign(ctx, msg)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := b.Sign(ctx, msg)
	flip := func(i int) []byte {
		s := bytes.Clone(sig)
		s[i] ^= 1
		return s
	}
	// An attacker who has broken one of the two algorithms holds one true half.
	mixed := func(ed, ml []byte) []byte { return append(bytes.Clone(ed[:64]), ml[64:]...) }
	halfKey := DualPublic{Ed25519: a.Public().Ed25519, MLDSA: b.Public().MLDSA}
	for _, c := range []struct {
		name string
		pub  DualPublic
		ctx  string
		msg  string
		sig  []byte
		want string // "" means it verifies
	}{
		{"true", a.Public(), ctx, "revision 7", sig, ""},
		{"other message", a.Public(), ctx, "revision 8", sig, "neither"},
		{"other context", a.Public(), "farhop join request v1", "revision 7", sig, "neither"},
		{"context moved into message", a.Public(), ctx + "r", "evision 7", sig, "neither"},
		{"other signer", b.Public(), ctx, "revision 7", sig, "neither"},
		{"Ed25519 half broken", a.Public(), ctx, "revision 7", flip(3), "Ed25519 half"},
		{"ML-DSA half broken", a.Public(), ctx, "revision 7", flip(900), "ML-DSA-65 half"},
		{"Ed25519 half forged", a.Public(), ctx, "revision 7", mixed(sig, other), "ML-DSA-65 half"},
		{"ML-DSA half forged", a.Public(), ctx, "revision 7", mixed(other, sig), "Ed25519 half"},
		{"ML-DSA key swapped", halfKey, ctx, "revision 7", sig, "ML-DSA-65 half"},
		{"cut short", a.Public(), ctx, "revision 7", sig[:len(sig)-1], "3372 bytes"},
		{"empty", a.Public(), ctx, "revision 7", nil, "0 bytes"},
		{"no key", DualPublic{}, ctx, "revision 7", sig, "public key"},
		{"no context", a.Public(), "", "revision 7", sig, "context"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := DualVerify(c.pub, c.ctx, []byte(c.msg), c.sig)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want ErrSignature naming %q", err, c.want)
			}
		})
	}
}

func TestSignRefusesBadContext(t *testing.T) {
	n := New()
	for _, ctx := range []string{"", strings.Repeat("x", MaxContext+1)} {
		if _, err := n.Sign(ctx, nil); err == nil {
			t.Errorf("Sign accepts a context of %d bytes", len(ctx))
		}
		if _, err := n.SignMLDSA(ctx, nil); err == nil {
			t.Errorf("SignMLDSA accepts a context of %d bytes", len(ctx))
		}
	}
}

func TestPublicRoundTrip(t *testing.T) {
	p := NewDualSigner().Public()
	got, err := ParseDualPublic(p.Bytes())
	if err != nil || !got.Equal(p) || got.Hash() != p.Hash() || got.MLDSAHash() != p.MLDSAHash() {
		t.Fatalf("round trip: %v, equal %v", err, got.Equal(p))
	}
	if p.Equal(DualPublic{}) || p.Equal(NewDualSigner().Public()) {
		t.Error("different keys are equal")
	}
	if _, err := ParseDualPublic(p.Bytes()[1:]); err == nil {
		t.Error("a short pair is accepted")
	}
}

func TestKeysAreNeverPrinted(t *testing.T) {
	n, a := New(), NewAuthority()
	secrets := []string{hex.EncodeToString(n.ed.Seed()), hex.EncodeToString(n.ml.Seed()), fmt.Sprint(n.ed.Seed()), fmt.Sprint([]byte(a.Root.Seed()))}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%d", "%s"} {
		for _, v := range []any{n, a, n.DualSigner, *n} {
			out := fmt.Sprintf(verb, v)
			for _, s := range secrets {
				if strings.Contains(out, strings.Trim(s, "[]")) || len(out) > 60 {
					t.Errorf("%s of %T prints %q", verb, v, out)
				}
			}
		}
	}
}
