package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
)

// ErrCorrupt is the cause of every refusal of a damaged or foreign key file.
var ErrCorrupt = errors.New("not a valid key file")

var errFingerprint = errors.New("the keys do not match their fingerprint line; restore the file from a copy")

const (
	pemType         = "PRIVATE KEY"
	fingerprintLine = "fingerprint: "
)

func corrupt(path string, cause error) error {
	return fmt.Errorf("%s: %w: %w", path, ErrCorrupt, cause)
}

// encodeKeys makes the body of a key file: a fingerprint of the public keys,
// then one PEM block for each key. Text before a block is explanatory and
// ignored by other tools (RFC 7468, section 2).
func encodeKeys(fingerprint [32]byte, keys [][]byte) []byte {
	var b bytes.Buffer
	b.WriteString(fingerprintLine + hex.EncodeToString(fingerprint[:]) + "\n")
	for _, der := range keys {
		// Writing to a bytes.Buffer cannot fail.
		_ = pem.Encode(&b, &pem.Block{Type: pemType, Bytes: der})
	}
	return b.Bytes()
}

// decodeKeys splits a key file of exactly n keys.
func decodeKeys(path string, data []byte, n int) (keys [][]byte, fingerprint [32]byte, err error) {
	_, rest, ok := bytes.Cut(data, []byte("\n"+fingerprintLine))
	line, rest, ok2 := bytes.Cut(rest, []byte("\n"))
	if fp, err := hex.DecodeString(string(line)); ok && ok2 && err == nil && len(fp) == len(fingerprint) {
		copy(fingerprint[:], fp)
	} else {
		return nil, fingerprint, corrupt(path, errors.New("no fingerprint line"))
	}
	for len(bytes.TrimSpace(rest)) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fingerprint, corrupt(path, errors.New("damaged PEM block"))
		}
		if block.Type != pemType || len(block.Headers) > 0 {
			return nil, fingerprint, corrupt(path, fmt.Errorf("PEM block %q, want %q without headers", block.Type, pemType))
		}
		keys = append(keys, block.Bytes)
	}
	if len(keys) != n {
		return nil, fingerprint, corrupt(path, fmt.Errorf("%d keys, want %d", len(keys), n))
	}
	return keys, fingerprint, nil
}

func marshalEd25519(k ed25519.PrivateKey) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil { // only an unknown key type fails
		panic("identity: " + err.Error())
	}
	return der
}

func parseEd25519(der []byte) (ed25519.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T where Ed25519 belongs", key)
	}
	return ed, nil
}

// pkcs8 is OneAsymmetricKey of RFC 5958 without its optional fields.
type pkcs8 struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
}

// seedTag opens the seed form of an ML-DSA private key, [0] IMPLICIT OCTET
// STRING (SIZE (32)): RFC 9881, section 6.
const seedTag = "\x80\x20"

func mldsaOID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18} }

func marshalMLDSA(k *mldsa65.PrivateKey) []byte {
	der, err := asn1.Marshal(pkcs8{
		Algorithm:  pkix.AlgorithmIdentifier{Algorithm: mldsaOID()},
		PrivateKey: append([]byte(seedTag), k.Seed()...),
	})
	if err != nil { // the struct has fixed, encodable fields
		panic("identity: " + err.Error())
	}
	return der
}

func parseMLDSA(der []byte) (*[mldsa65.SeedSize]byte, error) {
	var k pkcs8
	rest, err := asn1.Unmarshal(der, &k)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ML-DSA-65 key: %w", err)
	case len(rest) > 0 || k.Version != 0:
		return nil, errors.New("ML-DSA-65 key: not PKCS #8 version 1")
	case !k.Algorithm.Algorithm.Equal(mldsaOID()):
		return nil, fmt.Errorf("a key of algorithm %v where ML-DSA-65 belongs", k.Algorithm.Algorithm)
	}
	seed, ok := bytes.CutPrefix(k.PrivateKey, []byte(seedTag))
	if !ok || len(seed) != mldsa65.SeedSize {
		return nil, errors.New("ML-DSA-65 key: not in seed form (RFC 9881)")
	}
	return (*[mldsa65.SeedSize]byte)(seed), nil
}
