package pki

import (
	"bytes"
	"errors"
	"testing"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/routing/addr"
)

func TestRequestRoundTrip(t *testing.T) {
	id := identity.New()
	for _, name := range []string{"", "luna-1"} {
		r := request(t, id, name, "luna/south", TicketID{9})
		got, err := ParseRequest(r.Encode())
		if err != nil || !bytes.Equal(got.Encode(), r.Encode()) {
			t.Fatalf("name %q: %v", name, err)
		}
		if got.Name != r.Name || got.Region != r.Region || got.Ticket != r.Ticket || !got.Keys.Equal(id.Public()) {
			t.Errorf("request = %+v", got)
		}
	}
	if _, err := NewRequest(id, addr.Node{}, addr.Region{}, TicketID{}); !errors.Is(err, ErrRequest) {
		t.Errorf("no region: %v", err)
	}
}

func TestParseRequestRefuses(t *testing.T) {
	mine, thief := identity.New(), identity.New()
	whole := request(t, mine, "luna-1", "luna", TicketID{9}).Encode()
	flip := func(i int) []byte {
		b := bytes.Clone(whole)
		b[i] ^= 1
		return b
	}
	// Somebody else's key, to be certified under the thief's: each half alone.
	stolen := func(keys identity.DualPublic) []byte {
		r := &Request{Keys: keys, Name: addr.MustNode("x"), Region: addr.MustRegion("luna")}
		sig, err := thief.Sign(requestContext, r.signed())
		if err != nil {
			t.Fatal(err)
		}
		r.signature = sig
		return r.Encode()
	}
	for _, c := range []struct {
		name string
		data []byte
		says string
	}{
		{"empty", nil, "does not begin"},
		{"cut short", whole[:len(whole)-1], "do not fit"},
		{"longer", append(bytes.Clone(whole), 0), "do not fit"},
		{"huge", make([]byte, MaxRequest+1), "limit"},
		{"other ticket", flip(len(whole) - identity.SignatureSize - 1), "proof of possession"},
		{"other name", flip(len(requestMagic) + identity.PublicSize + 2), "proof of possession"},
		{"broken signature", flip(len(whole) - 1), "proof of possession"},
		{"stolen Ed25519 key", stolen(identity.DualPublic{Ed25519: mine.Public().Ed25519, MLDSA: thief.Public().MLDSA}), "Ed25519 half"},
		{"stolen ML-DSA key", stolen(identity.DualPublic{Ed25519: thief.Public().Ed25519, MLDSA: mine.Public().MLDSA}), "ML-DSA-65 half"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseRequest(c.data)
			if !errors.Is(err, ErrRequest) {
				t.Fatalf("error = %v, want ErrRequest", err)
			}
			mentions(t, err, c.says)
		})
	}
}

func FuzzParseRequest(f *testing.F) {
	r, err := NewRequest(identity.New(), addr.MustNode("luna-1"), addr.MustRegion("luna"), TicketID{9})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Encode())
	f.Add([]byte(requestMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseRequest(data)
		if err == nil && !bytes.Equal(got.Encode(), data) {
			t.Error("two encodings of one request")
		}
	})
}
