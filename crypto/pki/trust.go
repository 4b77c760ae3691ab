package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"github.com/farhop/farhop/crypto/identity"
)

// ErrTrust is the cause of every refusal of a trust bundle.
var ErrTrust = errors.New("not a valid trust bundle")

const (
	trustMagic = "farhop trust v1\n"
	// MaxTrust bounds an encoded trust bundle, in bytes.
	MaxTrust = 8 << 10
	// MaxCert bounds one certificate in DER, in bytes. With a chain of two it
	// stays far below QUIC's 16 KB of handshake data.
	MaxCert = 4 << 10
)

// MeshID names a mesh. It is random, so two meshes never share one.
type MeshID [16]byte

// NewMeshID draws an id.
func NewMeshID() (id MeshID) {
	rand.Read(id[:])
	return id
}

// String returns 32 hex digits, the trust domain of the mesh's SPIFFE ids.
func (id MeshID) String() string { return hex.EncodeToString(id[:]) }

// Hash is the SHA-256 that names an authority, a key or a secret.
type Hash [sha256.Size]byte

// String returns the first 16 hex digits: enough to compare by eye.
func (h Hash) String() string { return hex.EncodeToString(h[:8]) }

// Trust is the public half of an authority: all that a node must know to
// recognize its mesh. Make one with ParseTrust or take an Authority's.
type Trust struct {
	Mesh        MeshID
	RootCertDER []byte              // self-signed X.509 root, Ed25519
	Fleet       identity.DualPublic // signs fleet revisions

	root *x509.Certificate
	pool *x509.CertPool
}

func newTrust(mesh MeshID, rootDER []byte, fleet identity.DualPublic) (*Trust, error) {
	if err := fleet.Validate(); err != nil {
		return nil, fmt.Errorf("%w: fleet key: %w", ErrTrust, err)
	}
	root, err := parseRoot(mesh, rootDER)
	if err != nil {
		return nil, fmt.Errorf("%w: root certificate: %w", ErrTrust, err)
	}
	t := &Trust{Mesh: mesh, RootCertDER: root.Raw, Fleet: fleet, root: root, pool: x509.NewCertPool()}
	t.pool.AddCert(root)
	return t, nil
}

func parseRoot(mesh MeshID, der []byte) (*x509.Certificate, error) {
	if len(der) > MaxCert {
		return nil, fmt.Errorf("%d bytes, limit %d", len(der), MaxCert)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if !root.IsCA || !root.BasicConstraintsValid || root.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, errors.New("not a certificate authority")
	}
	if _, ok := root.PublicKey.(ed25519.PublicKey); !ok {
		return nil, fmt.Errorf("key of type %T, want Ed25519", root.PublicKey)
	}
	if err := root.CheckSignature(root.SignatureAlgorithm, root.RawTBSCertificate, root.Signature); err != nil {
		return nil, fmt.Errorf("not signed by itself: %w", err)
	}
	if len(root.URIs) != 1 || root.URIs[0].String() != meshURI(mesh) {
		return nil, fmt.Errorf("names another mesh than %s", mesh)
	}
	return root, nil
}

func meshURI(mesh MeshID) string { return "spiffe://" + mesh.String() }

// Encode returns the one encoding of t: equal bundles are equal bytes.
//
//	"farhop trust v1\n" | mesh id (16) | length (2, big endian) | root DER | fleet pair (1984)
func (t *Trust) Encode() []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddBytes([]byte(trustMagic))
	b.AddBytes(t.Mesh[:])
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(t.RootCertDER) })
	b.AddBytes(t.Fleet.Bytes())
	return b.BytesOrPanic() // every part is bounded by newTrust
}

// ParseTrust reads and checks a bundle: format, sizes, and that the root signs
// itself for this mesh. It does not decide whether to believe it: compare Hash.
func ParseTrust(data []byte) (*Trust, error) {
	if len(data) > MaxTrust {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrTrust, len(data), MaxTrust)
	}
	s := cryptobyte.String(data)
	var magic, mesh, pair []byte
	var root cryptobyte.String
	if !s.ReadBytes(&magic, len(trustMagic)) || string(magic) != trustMagic {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrTrust, trustMagic)
	}
	if !s.ReadBytes(&mesh, len(MeshID{})) || !s.ReadUint16LengthPrefixed(&root) || !s.ReadBytes(&pair, identity.PublicSize) {
		return nil, fmt.Errorf("%w: cut short at %d bytes", ErrTrust, len(data))
	}
	if !s.Empty() {
		return nil, fmt.Errorf("%w: %d bytes too many", ErrTrust, len(s))
	}
	fleet, err := identity.ParseDualPublic(pair)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTrust, err)
	}
	return newTrust(MeshID(mesh), bytes.Clone(root), fleet)
}

// Hash is SHA-256 of Encode: the authority's name in tickets.
func (t *Trust) Hash() Hash { return sha256.Sum256(t.Encode()) }

// Root returns the parsed root certificate; do not change it.
func (t *Trust) Root() *x509.Certificate { return t.root }

// parseMeshID reads what String wrote, and no other spelling of it.
func parseMeshID(s string) (id MeshID, err error) {
	if b, err := hex.DecodeString(s); err == nil && len(b) == len(id) {
		id = MeshID(b)
	}
	if id.String() != s {
		return MeshID{}, fmt.Errorf("mesh id %.80q: want %d hex digits", s, 2*len(id))
	}
	return id, nil
}
