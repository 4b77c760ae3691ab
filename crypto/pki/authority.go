package pki

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/routing/addr"
)

// Lifetimes of what an authority signs.
const (
	// LeafLife is how long a node's certificate is valid from its issue. A
	// node that reaches no issuer for that long must be invited again.
	LeafLife = 365 * 24 * time.Hour
	// RootYears is the life of the root certificate.
	RootYears = 20
	// Backdate is how far before its issue a certificate starts. A day covers
	// clocks that run on local time, 14 hours off at most, and slow ones.
	Backdate = 24 * time.Hour
)

// ErrClock is returned when the authority's clock cannot be right. A wrong
// date would outlive the mistake in every certificate made with it.
var ErrClock = errors.New("the clock is wrong")

// TrustFile is the trust bundle in a key directory.
const TrustFile = "trust.bin"

// earliest is before any authority was made.
func earliest() time.Time { return time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC) }

// pinOID marks the extension with the SHA-256 of a node's ML-DSA-65 key, as a
// DER OCTET STRING. It is not registered: 32473 is the enterprise number that
// IANA keeps for documentation (RFC 5612), so it will never be anybody else's.
func pinOID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 7330, 1}
}

// Authority admits nodes to a mesh. It issues whatever it is told to: the
// rules (one name, one key; one ticket, one node) are the Ledger's.
type Authority struct {
	keys  *identity.Authority
	trust *Trust
}

// NewAuthority makes a mesh: fresh keys, a random mesh id and a root
// certificate of RootYears. region is where the mesh begins and only words the
// root's subject. The clock must be right here, or ErrClock.
func NewAuthority(region addr.Region, now time.Time) (*Authority, error) {
	if now.Before(earliest()) {
		return nil, fmt.Errorf("new authority: %w: it says %s; set it first", ErrClock, now.UTC().Format(time.DateTime))
	}
	keys, mesh := identity.NewAuthority(), NewMeshID()
	uri, err := url.Parse(meshURI(mesh))
	if err != nil {
		return nil, fmt.Errorf("new authority: %w", err)
	}
	tmpl := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "farhop authority", OrganizationalUnit: []string{region.String()}},
		NotBefore:             now.Add(-Backdate).UTC(),
		NotAfter:              now.AddDate(RootYears, 0, 0).UTC(),
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            1, // room for one issuer per region
		KeyUsage:              x509.KeyUsageCertSign,
		URIs:                  []*url.URL{uri},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, keys.RootPublic(), keys.Root)
	if err != nil {
		return nil, fmt.Errorf("new authority: %w", err)
	}
	trust, err := newTrust(mesh, der, keys.Fleet.Public())
	if err != nil {
		return nil, fmt.Errorf("new authority: %w", err)
	}
	return &Authority{keys: keys, trust: trust}, nil
}

// Save writes root.key, fleet.key and trust.bin to dir; never over others'
// keys. trust.bin comes last: where it is, the rest is.
func (a *Authority) Save(dir string) error {
	if err := a.keys.Save(dir); err != nil {
		return fmt.Errorf("save authority: %w", err)
	}
	if err := identity.WriteFile(filepath.Join(dir, TrustFile), a.trust.Encode()); err != nil {
		return fmt.Errorf("save authority: %w", err)
	}
	return nil
}

// LoadAuthority reads what Save wrote and checks that keys and bundle belong
// together. fs.ErrNotExist: this node holds no authority.
func LoadAuthority(dir string) (*Authority, error) {
	keys, err := identity.LoadAuthority(dir)
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	trust, err := loadTrust(dir)
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	if pub, ok := trust.root.PublicKey.(ed25519.PublicKey); !ok || !pub.Equal(keys.RootPublic()) || !trust.Fleet.Equal(keys.Fleet.Public()) {
		return nil, fmt.Errorf("load authority: the keys in %s are not those of its %s; restore both from one copy", dir, TrustFile)
	}
	return &Authority{keys: keys, trust: trust}, nil
}

func loadTrust(dir string) (*Trust, error) {
	path := filepath.Join(dir, TrustFile)
	data, err := identity.ReadPublic(path, MaxTrust)
	if err != nil {
		return nil, err
	}
	t, err := ParseTrust(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Trust returns the public half of the authority.
func (a *Authority) Trust() *Trust { return a.trust }

// Fleet returns the signer of fleet revisions.
func (a *Authority) Fleet() *identity.DualSigner { return a.keys.Fleet }

// IssueRequest is who a certificate is for.
type IssueRequest struct {
	Name   addr.Node
	Region addr.Region
	Keys   identity.DualPublic
	Now    time.Time // the authority's clock
}

// Issue signs a leaf for a node: valid LeafLife (less if the root ends before),
// for both ends of a connection, naming node and region in its SPIFFE id and
// pinning the ML-DSA-65 key. It returns DER. ErrClock: Now is outside the
// root's life.
func (a *Authority) Issue(req IssueRequest) ([]byte, error) {
	if err := req.validate(); err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	root := a.trust.root
	if req.Now.Before(root.NotBefore) || req.Now.After(root.NotAfter) {
		return nil, fmt.Errorf("issue certificate for %s: %w: it says %s, outside the root's life", req.Name, ErrClock, req.Now.UTC().Format(time.DateTime))
	}
	pin := req.Keys.MLDSAHash()
	ext, err := asn1.Marshal(pin[:])
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", req.Name, err)
	}
	uri, err := url.Parse(nodeURI(a.trust.Mesh, req.Region, req.Name))
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", req.Name, err)
	}
	tmpl := &x509.Certificate{
		Subject:               pkix.Name{CommonName: req.Name.String()},
		NotBefore:             req.Now.Add(-Backdate).UTC(),
		NotAfter:              a.leafEnd(req.Now),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:                  []*url.URL{uri},
		ExtraExtensions:       []pkix.Extension{{Id: pinOID(), Value: ext}},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, root, req.Keys.Ed25519, a.keys.Root)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", req.Name, err)
	}
	return der, nil
}

// leafEnd is when a leaf issued now ends; certificates count whole seconds.
func (a *Authority) leafEnd(now time.Time) time.Time {
	end := now.UTC().Add(LeafLife).Truncate(time.Second)
	if end.After(a.trust.root.NotAfter) {
		return a.trust.root.NotAfter.UTC()
	}
	return end
}

func (r IssueRequest) validate() error {
	if r.Name.IsZero() || r.Region.IsZero() {
		return fmt.Errorf("name %q, region %q: both are needed", r.Name, r.Region)
	}
	return r.Keys.Validate()
}
