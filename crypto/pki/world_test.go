package pki

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/routing/addr"
)

// start is when the meshes of these tests begin.
func start() time.Time { return time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC) }

// at is a clock that stands still.
func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// mesh is an authority with its ledger in RAM.
type mesh struct {
	*Authority
	ledger *Ledger
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	a, err := NewAuthority(addr.MustRegion("earth"), start())
	if err != nil {
		t.Fatal(err)
	}
	return &mesh{a, NewLedger(a, func([]byte) error { return nil })}
}

// node admits a node and returns what it runs with.
func (m *mesh) node(t *testing.T, name, region string) *Material {
	t.Helper()
	id := identity.New()
	cert, err := m.ledger.Admit(IssueRequest{Name: addr.MustNode(name), Region: addr.MustRegion(region), Keys: id.Public(), Now: start()})
	if err != nil {
		t.Fatal(err)
	}
	mat, err := NewMaterial(id, cert, m.Trust())
	if err != nil {
		t.Fatal(err)
	}
	return mat
}

// forge signs a leaf that Issue would never make. It returns what a node with
// that leaf would run with, if it did not check itself.
func (m *mesh) forge(t *testing.T, change func(*x509.Certificate)) *Material {
	t.Helper()
	id := identity.New()
	honest, err := m.Issue(IssueRequest{Name: addr.MustNode("forged"), Region: addr.MustRegion("earth"), Keys: id.Public(), Now: start()})
	if err != nil {
		t.Fatal(err)
	}
	mat, err := NewMaterial(id, honest, m.Trust())
	if err != nil {
		t.Fatal(err)
	}
	tmpl := *mat.leaf
	tmpl.ExtraExtensions = pinOnly(&tmpl)
	tmpl.Raw, tmpl.SerialNumber = nil, nil
	change(&tmpl)
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, m.trust.root, tmpl.PublicKey, m.keys.Root)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Material{Identity: mat.Identity, CertDER: der, Trust: mat.Trust, leaf: leaf}
}

func (m *mesh) invite(t *testing.T, region string) *Ticket {
	t.Helper()
	ticket, err := m.ledger.Invite(Invitation{Region: addr.MustRegion(region), Issuer: addr.MustNode("gw-1"), Addresses: []string{"127.0.0.1:7330"}}, start())
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func request(t *testing.T, id *identity.Node, name, region string, ticket TicketID) *Request {
	t.Helper()
	var n addr.Node
	if name != "" {
		n = addr.MustNode(name)
	}
	r, err := NewRequest(id, n, addr.MustRegion(region), ticket)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// keyDir is a directory of mode 0700, which t.TempDir is not under all umasks.
func keyDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := identity.MakeDir(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mentions(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v does not mention %q", err, text)
	}
}

func setURI(u []*url.URL) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.URIs = u }
}

func isPin(e pkix.Extension) bool { return e.Id.Equal(pinOID()) }

// pinOnly keeps the key pin of a parsed leaf; its other extensions are made
// anew from the template.
func pinOnly(c *x509.Certificate) []pkix.Extension {
	return slices.DeleteFunc(slices.Clone(c.Extensions), func(e pkix.Extension) bool { return !isPin(e) })
}

// redeemSecret redeems as the holder of secret.
func redeemSecret(l *Ledger, id TicketID, secret Secret, req *Request, now time.Time) ([]byte, error) {
	var proof Proof
	if req.Keys.Validate() == nil {
		proof = secret.Prove(req)
	}
	return l.Redeem(id, proof, req, now)
}
