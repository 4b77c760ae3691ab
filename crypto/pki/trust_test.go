package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/routing/addr"
)

func TestTrustRoundTrip(t *testing.T) {
	a, b := newMesh(t).Trust(), newMesh(t).Trust()
	got, err := ParseTrust(a.Encode())
	if err != nil || !bytes.Equal(got.Encode(), a.Encode()) || got.Hash() != a.Hash() || !got.Fleet.Equal(a.Fleet) {
		t.Fatalf("round trip: %v", err)
	}
	if a.Mesh == b.Mesh || a.Hash() == b.Hash() {
		t.Error("two meshes share an id or a hash")
	}
}

func TestParseTrustRefuses(t *testing.T) {
	m := newMesh(t)
	a, b := m.Trust(), newMesh(t).Trust()
	whole := a.Encode()
	leaf := m.node(t, "gw-1", "earth").CertDER
	enc := func(mesh MeshID, root []byte) []byte {
		return (&Trust{Mesh: mesh, RootCertDER: root, Fleet: a.Fleet}).Encode()
	}
	broken := bytes.Clone(a.RootCertDER)
	broken[len(broken)-1] ^= 1
	for _, c := range []struct {
		name string
		data []byte
		text string
	}{
		{"empty", nil, "does not begin"},
		{"other file", []byte("-----BEGIN CERTIFICATE-----"), "does not begin"},
		{"cut short", whole[:len(whole)-1], "cut short"},
		{"longer", append(bytes.Clone(whole), 0), "1 bytes too many"},
		{"huge", make([]byte, MaxTrust+1), "limit"},
		{"root of another mesh", enc(a.Mesh, b.RootCertDER), "another mesh"},
		{"a leaf as root", enc(a.Mesh, leaf), "not a certificate authority"},
		{"broken root signature", enc(a.Mesh, broken), "not signed by itself"},
		{"no root", enc(a.Mesh, nil), "root certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseTrust(c.data)
			if !errors.Is(err, ErrTrust) {
				t.Fatalf("error = %v, want ErrTrust", err)
			}
			mentions(t, err, c.text)
		})
	}
}

func FuzzParseTrust(f *testing.F) {
	a, err := NewAuthority(addr.MustRegion("earth"), start())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a.Trust().Encode())
	f.Add([]byte(trustMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		tr, err := ParseTrust(data)
		if err != nil {
			return
		}
		if !bytes.Equal(tr.Encode(), data) {
			t.Error("two encodings of one bundle")
		}
	})
}

func TestAuthoritySaveLoad(t *testing.T) {
	dir := keyDir(t)
	if _, err := LoadAuthority(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no authority: %v", err)
	}
	m := newMesh(t)
	if err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	a, err := LoadAuthority(dir)
	if err != nil || a.Trust().Hash() != m.Trust().Hash() {
		t.Fatalf("load: %v", err)
	}
	// The loaded authority must speak for the same mesh, in both its roles.
	id := identity.New()
	cert, err := a.Issue(IssueRequest{Name: addr.MustNode("n"), Region: addr.MustRegion("luna"), Keys: id.Public(), Now: start()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewMaterial(id, cert, m.Trust()); err != nil {
		t.Errorf("certificate of the loaded authority: %v", err)
	}
	sig, err := a.Fleet().Sign("farhop fleet revision v1", []byte("r"))
	if err != nil || identity.DualVerify(m.Trust().Fleet, "farhop fleet revision v1", []byte("r"), sig) != nil {
		t.Errorf("fleet signature of the loaded authority does not verify: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, TrustFile), newMesh(t).Trust().Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = LoadAuthority(dir)
	mentions(t, err, "are not those of its trust.bin")
}

func TestAuthorityClock(t *testing.T) {
	if _, err := NewAuthority(addr.MustRegion("earth"), time.Unix(0, 0)); !errors.Is(err, ErrClock) {
		t.Errorf("an authority made in 1970: %v", err)
	}
	m := newMesh(t)
	keys := identity.New().Public()
	for _, c := range []struct {
		name string
		now  time.Time
		ok   bool
	}{
		{"1970", time.Unix(0, 0), false},
		{"now", start(), true},
		{"last year of the root", start().AddDate(RootYears, -1, 0), true},
		{"after the root", start().AddDate(RootYears, 0, 1), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			der, err := m.Issue(IssueRequest{Name: addr.MustNode("n"), Region: addr.MustRegion("luna"), Keys: keys, Now: c.now})
			if !c.ok {
				if !errors.Is(err, ErrClock) {
					t.Errorf("error = %v, want ErrClock", err)
				}
				return
			}
			leaf, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			if leaf.NotAfter.After(m.trust.root.NotAfter) || !IssuedAt(leaf).Equal(c.now) || leaf.NotAfter.Sub(c.now) > LeafLife {
				t.Errorf("leaf lives from %v to %v", leaf.NotBefore, leaf.NotAfter)
			}
		})
	}
}

func TestLeafSaysWhatWasIssued(t *testing.T) {
	m := newMesh(t)
	// Regions and names whose parts look like the path's own words.
	for _, c := range []struct{ name, region, uri string }{
		{"luna-1", "luna/south", "/region/luna/south/node/luna-1"},
		{"node", "node/region", "/region/node/region/node/node"},
		{"x", "a/node/b", "/region/a/node/b/node/x"},
	} {
		mat := m.node(t, c.name, c.region)
		p := mat.Self()
		want := Peer{Mesh: m.trust.Mesh, Node: addr.MustNode(c.name), Region: addr.MustRegion(c.region), KeyHash: mat.Identity.Public().MLDSAHash()}
		if p != want {
			t.Errorf("peer = %+v, want %+v", p, want)
		}
		if got := mat.leaf.URIs[0].String(); got != "spiffe://"+m.trust.Mesh.String()+c.uri {
			t.Errorf("SPIFFE id = %s", got)
		}
		if len(mat.CertDER) > 600 {
			t.Errorf("leaf of %d bytes: it travels in every handshake", len(mat.CertDER))
		}
	}
}

func TestForgedLeavesAreRefused(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	uri := func(s string) []*url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return []*url.URL{u}
	}
	base := "spiffe://" + m.trust.Mesh.String()
	for _, c := range []struct {
		name   string
		change func(*x509.Certificate)
		want   error
	}{
		{"unchanged", func(*x509.Certificate) {}, nil},
		{"no key pin", func(c *x509.Certificate) { c.ExtraExtensions = nil }, ErrCertificate},
		{"short key pin", func(c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte{4, 1, 9} }, ErrCertificate},
		{"no SPIFFE id", setURI(nil), ErrCertificate},
		{"another mesh", setURI(uri(nodeURI(other.trust.Mesh, addr.MustRegion("earth"), addr.MustNode("forged")))), ErrOtherMesh},
		{"two ids", setURI(append(uri(base+"/region/earth/node/forged"), uri(base+"/region/luna/node/forged")...)), ErrCertificate},
		{"name and id differ", setURI(uri(base + "/region/earth/node/gw-1")), ErrCertificate},
		{"no region", setURI(uri(base + "/node/forged")), ErrCertificate},
		{"bad region", setURI(uri(base + "/region/EARTH/node/forged")), ErrCertificate},
		{"query in the id", setURI(uri(base + "/region/earth/node/forged?x")), ErrCertificate},
		{"short mesh id", setURI(uri("spiffe://abcd/region/earth/node/forged")), ErrCertificate},
		{"other use", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }, ErrChain},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := m.forge(t, c.change)
			_, err := m.trust.verifyPeer([]*x509.Certificate{f.leaf}, x509.ExtKeyUsageClientAuth, start())
			if !errors.Is(err, c.want) {
				t.Errorf("error = %v, want %v", err, c.want)
			}
		})
	}
}

func TestMaterialSaveLoad(t *testing.T) {
	dir := keyDir(t)
	_, err := LoadMaterial(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty directory: %v", err)
	}
	mentions(t, err, "farhop join")
	m := newMesh(t)
	mat := m.node(t, "gw-1", "earth")
	for range 2 { // saving again is how a renewed certificate gets in
		if err := mat.Save(dir); err != nil {
			t.Fatal(err)
		}
	}
	got, err := LoadMaterial(dir)
	if err != nil || got.Self() != mat.Self() || !bytes.Equal(got.CertDER, mat.CertDER) || got.Trust.Hash() != m.Trust().Hash() {
		t.Fatalf("load: %v", err)
	}
	for _, c := range []struct {
		name, file string
		data       []byte
		text       string
	}{
		{"other mesh's trust", TrustFile, newMesh(t).Trust().Encode(), "not signed by this mesh"},
		{"damaged trust", TrustFile, mat.Trust.Encode()[:900], "cut short"},
		{"damaged certificate", CertFile, []byte("x"), "not one PEM certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := mat.Save(dir); err != nil {
				t.Fatal(err)
			}
			if err := identity.WriteFile(filepath.Join(dir, c.file), c.data); err != nil {
				t.Fatal(err)
			}
			_, err := LoadMaterial(dir)
			mentions(t, err, c.text)
			mentions(t, err, dir)
		})
	}
	if _, err := NewMaterial(identity.New(), mat.CertDER, mat.Trust); err == nil {
		t.Error("a certificate for other keys is accepted")
	}
}
