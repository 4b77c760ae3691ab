package pki

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/farhop/farhop/crypto/identity"
)

// CertFile is a node's certificate in its key directory, one PEM block.
const CertFile = "node.crt"

// Material is what a node shows and trusts: its keys, its certificate, its
// mesh. It is immutable; a renewed certificate makes a new Material.
type Material struct {
	Identity *identity.Node
	CertDER  []byte
	Trust    *Trust

	leaf *x509.Certificate
	self Peer
}

// NewMaterial checks that the three belong together: the certificate is for
// both keys of the identity and signed by the trust's root. It does not look at
// the time: peers judge expiry, and a renewal needs the old certificate.
func NewMaterial(id *identity.Node, certDER []byte, trust *Trust) (*Material, error) {
	if id == nil || trust == nil || trust.root == nil {
		return nil, errors.New("node material: keys and trust bundle are needed")
	}
	if len(certDER) > MaxCert {
		return nil, fmt.Errorf("node certificate: %d bytes, limit %d", len(certDER), MaxCert)
	}
	leaf, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, fmt.Errorf("node certificate: %w", err)
	}
	self, err := trust.verifyPeer([]*x509.Certificate{leaf}, x509.ExtKeyUsageServerAuth, leaf.NotBefore)
	if err != nil {
		return nil, fmt.Errorf("node certificate: %w", err)
	}
	pub, ok := leaf.PublicKey.(ed25519.PublicKey)
	if keys := id.Public(); !ok || !pub.Equal(keys.Ed25519) || self.KeyHash != keys.MLDSAHash() {
		return nil, fmt.Errorf("node certificate: it is for other keys than this node's (%v); restore %s and %s from one copy, or join again",
			id, identity.NodeKeyFile, CertFile)
	}
	return &Material{Identity: id, CertDER: leaf.Raw, Trust: trust, leaf: leaf, self: self}, nil
}

// Self is this node as its peers see it.
func (m *Material) Self() Peer { return m.self }

// Leaf returns the parsed certificate; do not change it.
func (m *Material) Leaf() *x509.Certificate { return m.leaf }

// Save writes node.key, trust.bin and node.crt to dir. The certificate comes
// last: where it is, the node has joined.
func (m *Material) Save(dir string) error {
	if err := m.Identity.Save(dir); err != nil {
		return fmt.Errorf("save node material: %w", err)
	}
	if err := identity.WriteFile(filepath.Join(dir, TrustFile), m.Trust.Encode()); err != nil {
		return fmt.Errorf("save node material: %w", err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.CertDER})
	if err := identity.WriteFile(filepath.Join(dir, CertFile), block); err != nil {
		return fmt.Errorf("save node material: %w", err)
	}
	return nil
}

// LoadMaterial reads and checks what Save wrote. fs.ErrNotExist: this node has
// not joined a mesh yet.
func LoadMaterial(dir string) (*Material, error) {
	path := filepath.Join(dir, CertFile)
	data, err := identity.ReadPublic(path, 2*MaxCert)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("this node belongs to no mesh yet (farhop init or farhop join): %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("load node material: %w", err)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		return nil, fmt.Errorf("load node material: %s: not one PEM certificate", path)
	}
	id, err := identity.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("load node material: %w", err)
	}
	trust, err := loadTrust(dir)
	if err != nil {
		return nil, fmt.Errorf("load node material: %w", err)
	}
	m, err := NewMaterial(id, block.Bytes, trust)
	if err != nil {
		return nil, fmt.Errorf("load node material from %s: %w", dir, err)
	}
	return m, nil
}

// certificate is the node's leaf with its key. A join server also sends the
// root, which the new node does not have yet.
func (m *Material) certificate(withRoot bool) tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{m.CertDER}, PrivateKey: m.Identity.TLSKey(), Leaf: m.leaf}
	if withRoot {
		c.Certificate = append(c.Certificate, m.Trust.RootCertDER)
	}
	return c
}
