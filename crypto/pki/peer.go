package pki

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// Why a certificate or connection is refused.
var (
	ErrCertificate = errors.New("certificate is not a node's")
	ErrChain       = errors.New("certificate is not signed by this mesh's authority")
	ErrExpired     = errors.New("certificate has expired")
	ErrOtherMesh   = errors.New("peer belongs to another mesh")
	ErrWrongNode   = errors.New("peer is another node than the one wanted")
)

// maxChain is the most certificates a peer may send: leaf, issuer, root.
const maxChain = 3

// Peer is who is at the other end, as its certificate says. It is comparable.
type Peer struct {
	Mesh    MeshID
	Node    addr.Node
	Region  addr.Region
	KeyHash Hash // SHA-256 of the ML-DSA-65 public key
}

// PeerOf reads the peer of a connection that was made with a configuration of
// this package, whose VerifyConnection has checked it. On any other connection
// it only repeats what the peer claims.
func PeerOf(state tls.ConnectionState) (Peer, error) {
	if len(state.PeerCertificates) == 0 {
		return Peer{}, fmt.Errorf("peer: %w: none was sent", ErrCertificate)
	}
	return peerOfLeaf(state.PeerCertificates[0])
}

// peerOfLeaf reads a leaf, strictly: a certificate that Issue would not have
// made so is refused even if the root signed it.
func peerOfLeaf(leaf *x509.Certificate) (Peer, error) {
	if leaf.IsCA {
		return Peer{}, fmt.Errorf("%w: it is an authority's", ErrCertificate)
	}
	if _, ok := leaf.PublicKey.(ed25519.PublicKey); !ok {
		return Peer{}, fmt.Errorf("%w: its key is %T, want Ed25519", ErrCertificate, leaf.PublicKey)
	}
	if len(leaf.URIs) != 1 {
		return Peer{}, fmt.Errorf("%w: %d SPIFFE ids, want 1", ErrCertificate, len(leaf.URIs))
	}
	p, err := parseNodeURI(leaf.URIs[0].String())
	if err != nil {
		return Peer{}, err
	}
	if leaf.Subject.CommonName != p.Node.String() {
		return Peer{}, fmt.Errorf("%w: common name %q, SPIFFE id of %s", ErrCertificate, leaf.Subject.CommonName, p.Node)
	}
	p.KeyHash, err = pinOf(leaf)
	return p, err
}

func pinOf(leaf *x509.Certificate) (h Hash, err error) {
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(pinOID()) {
			continue
		}
		var pin []byte
		rest, err := asn1.Unmarshal(e.Value, &pin)
		if err != nil || len(rest) > 0 || len(pin) != len(h) {
			return h, fmt.Errorf("%w: its ML-DSA-65 key hash is malformed", ErrCertificate)
		}
		return Hash(pin), nil
	}
	return h, fmt.Errorf("%w: it names no ML-DSA-65 key", ErrCertificate)
}

func nodeURI(mesh MeshID, region addr.Region, node addr.Node) string {
	return meshURI(mesh) + "/region/" + region.String() + "/node/" + node.String()
}

// parseNodeURI is the inverse of nodeURI and accepts nothing else. Node names
// hold no slash, so the last /node/ ends the region whatever its parts are.
func parseNodeURI(s string) (Peer, error) {
	bad := fmt.Errorf("%w: SPIFFE id %.200q", ErrCertificate, s)
	rest, ok := strings.CutPrefix(s, "spiffe://")
	mesh, path, ok2 := strings.Cut(rest, "/region/")
	i := strings.LastIndex(path, "/node/")
	if !ok || !ok2 || i < 0 {
		return Peer{}, bad
	}
	id, err := parseMeshID(mesh)
	if err != nil {
		return Peer{}, bad
	}
	region, err := addr.ParseRegion(path[:i])
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %w", bad, err)
	}
	node, err := addr.ParseNode(path[i+len("/node/"):])
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %w", bad, err)
	}
	return Peer{Mesh: id, Node: node, Region: region}, nil
}

// IssuedAt is when the authority signed a leaf, by the authority's clock: a
// signed time, by which a node without a clock raises its floor.
func IssuedAt(leaf *x509.Certificate) time.Time { return leaf.NotBefore.Add(Backdate) }

// FloorClock returns a clock that reads now, but never less than floor: the
// last signed time the node has seen, kept across restarts. It is not sticky
// on purpose, so a clock that once jumped far ahead can come back.
func FloorClock(floor time.Time, now func() time.Time) func() time.Time {
	return func() time.Time {
		if t := now(); t.After(floor) {
			return t
		}
		return floor
	}
}

// verifyPeer checks the certificates a peer sent against the mesh at a time
// and for one use (client or server), and returns who it is.
func (t *Trust) verifyPeer(certs []*x509.Certificate, use x509.ExtKeyUsage, now time.Time) (Peer, error) {
	if len(certs) == 0 || len(certs) > maxChain {
		return Peer{}, fmt.Errorf("%w: %d certificates sent, want 1 to %d", ErrCertificate, len(certs), maxChain)
	}
	leaf := certs[0]
	if err := t.verifyChain(certs, use, now); err != nil {
		return Peer{}, err
	}
	p, err := peerOfLeaf(leaf)
	if err != nil {
		return Peer{}, err
	}
	if p.Mesh != t.Mesh {
		return Peer{}, fmt.Errorf("%w: %s, this is %s", ErrOtherMesh, p.Mesh, t.Mesh)
	}
	return p, nil
}

// verifyChain asks x509 whether the root vouches for the leaf. No host name is
// checked: identity is the SPIFFE id.
//
// A leaf from the future is not refused: only the authority dates leaves, so
// it shows that our clock is slow. Were it refused, a node without a clock
// could not talk to any peer whose certificate is newer than its own floor.
func (t *Trust) verifyChain(certs []*x509.Certificate, use x509.ExtKeyUsage, now time.Time) error {
	leaf := certs[0]
	if leaf.NotBefore.After(now) {
		now = leaf.NotBefore
	}
	issuers := x509.NewCertPool()
	for _, c := range certs[1:] {
		issuers.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         t.pool,
		Intermediates: issuers,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{use},
	})
	if err == nil {
		return nil
	}
	who := clip(leaf.Subject.CommonName)
	if inv := (x509.CertificateInvalidError{}); errors.As(err, &inv) && inv.Reason == x509.Expired {
		return fmt.Errorf("%w: %s's ended %s, now is %s", ErrExpired, who,
			leaf.NotAfter.UTC().Format(time.DateTime), now.UTC().Format(time.DateTime))
	}
	return fmt.Errorf("%w: %s's (authority %s): %w", ErrChain, who, t.Hash(), err)
}

// clip bounds a peer's text in an error.
func clip(s string) string { return fmt.Sprintf("%.80q", s) }
