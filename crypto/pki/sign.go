package pki

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/routing/addr"
)

// What a node signs carries its certificate and public keys, so that any node
// of the mesh can judge it without having met the signer: the certificate, the
// keys and both signatures, each after its length, a varint.

// Sign signs msg for a context with both keys of the node.
func (m *Material) Sign(context string, msg []byte) ([]byte, error) {
	sig, err := m.Identity.Sign(context, msg)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	var out []byte
	for _, part := range [][]byte{m.CertDER, m.Identity.Public().Bytes(), sig} {
		out = append(binary.AppendUvarint(out, uint64(len(part))), part...)
	}
	return out, nil
}

// VerifySigned judges what Sign returned: want signed it, as a node of this mesh
// whose certificate was good at the given time.
func (t *Trust) VerifySigned(context string, msg, signed []byte, want addr.Node, at time.Time) error {
	var parts [3][]byte
	for i := range parts {
		size, n := binary.Uvarint(signed)
		if n <= 0 || size > uint64(len(signed)-n) {
			return errors.New("malformed signature")
		}
		parts[i], signed = signed[n:n+int(size)], signed[n+int(size):]
	}
	if len(signed) > 0 || len(parts[0]) > MaxCert {
		return errors.New("malformed signature")
	}
	leaf, err := x509.ParseCertificate(parts[0])
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	p, err := t.verifyPeer([]*x509.Certificate{leaf}, x509.ExtKeyUsageClientAuth, at)
	if err != nil {
		return err
	}
	keys, err := identity.ParseDualPublic(parts[1])
	if err != nil {
		return err
	}
	if pub, ok := leaf.PublicKey.(ed25519.PublicKey); !ok || !pub.Equal(keys.Ed25519) || p.KeyHash != keys.MLDSAHash() {
		return errors.New("the certificate is for other keys")
	}
	if p.Node != want {
		return fmt.Errorf("%w: signed by %s, not %s", ErrWrongNode, p.Node, want)
	}
	return identity.DualVerify(keys, context, msg, parts[2])
}
