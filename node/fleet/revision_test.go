package fleet

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/node/config"
)

const resources = `
services:
- name: historian
  endpoints: [{node: earth-1, address: "127.0.0.1:5432"}]
  listen: [{node: luna-1, address: "127.0.0.1:15432"}]
routes:
- {name: up, match: {topic: "plant/#"}, to: [earth], unreachable: store}
`

func signer(t testing.TB) (*identity.DualSigner, identity.DualPublic) {
	t.Helper()
	a := identity.NewAuthority()
	return a.Fleet, a.Fleet.Public()
}

func parse(t testing.TB, text string) config.Resources {
	t.Helper()
	r, err := config.ParseResources("fleet.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestChain(t *testing.T) {
	by, pub := signer(t)
	now := time.UnixMilli(1_800_000_000_123)
	first, err := Sign(by, nil, parse(t, resources), now)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Sign(by, first, parse(t, "routes: []\n"), now)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Sign(by, nil, parse(t, "routes: []\n"), now)
	if err != nil {
		t.Fatal(err)
	}
	fork, err := Sign(by, other, parse(t, resources), now)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open(first.Signed, pub)
	if err != nil {
		t.Fatal(err)
	}
	if got.Seq != 1 || got.Hash != first.Hash || !got.Created.Equal(now) || len(got.Resources.Services) != 1 {
		t.Errorf("opened as %+v", got)
	}
	for _, c := range []struct {
		name    string
		rev     *Revision
		inForce *Revision
		want    error
	}{
		{"first", first, nil, nil},
		{"second after first", second, first, nil},
		{"second for a newcomer", second, nil, nil},
		{"the same again", first, first, ErrStale},
		{"older", first, second, ErrStale},
		{"other history", fork, first, ErrFork},
	} {
		if err := c.rev.Follows(c.inForce); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestTamperedIsRefused(t *testing.T) {
	by, pub := signer(t)
	rev, err := Sign(by, nil, parse(t, resources), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(rev.Signed); i += 7 {
		bad := slices.Clone(rev.Signed)
		bad[i] ^= 0x10
		if _, err := Open(bad, pub); err == nil {
			t.Fatalf("byte %d changed and nobody noticed", i)
		}
	}
	_, stranger := signer(t)
	if _, err := Open(rev.Signed, stranger); !errors.Is(err, ErrSignature) {
		t.Errorf("signed by another authority: %v, want ErrSignature", err)
	}
}

func FuzzOpen(f *testing.F) {
	by, pub := signer(f)
	rev, err := Sign(by, nil, parse(f, resources), time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rev.Signed)
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := Open(b, pub); err == nil && got.Hash != rev.Hash {
			t.Errorf("accepted bytes that were never signed")
		}
	})
}
