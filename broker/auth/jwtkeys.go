package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

// Limits of a key file.
const (
	maxKeyFile   = 1 << 20 // bytes
	maxKeys      = 64
	minSecret    = 32 // bytes (RFC 7518, 3.2, for HS256)
	minRSA       = 2048
	maxRSA       = 8192
	maxKeyIDSize = 256
)

// keys are those of one file.
type keys []key

// key is one key with the only algorithms it is for: what a token says about
// its algorithm never decides how a key is used.
type key struct {
	id  string // "" if the file gives none
	alg string // the one algorithm, "" for any its kind is for

	secret  []byte // HS256, HS384, HS512
	rsa     *rsa.PublicKey
	ecdsa   *ecdsa.PublicKey // P-256
	ed25519 ed25519.PublicKey
}

// parseKeys reads a key file: a JWKS (RFC 7517), PEM blocks with public keys
// or certificates, or anything else as one secret, without the newline at its
// end. name is used in errors only.
func parseKeys(name string, data []byte) (*keys, error) {
	var ks keys
	var err error
	trimmed := bytes.TrimSpace(data)
	switch {
	case bytes.HasPrefix(trimmed, []byte("{")):
		ks, err = parseJWKS(trimmed)
	case bytes.Contains(data, []byte("-----BEGIN ")):
		ks, err = parsePEM(data)
	default:
		secret := bytes.TrimRight(data, "\r\n")
		ks, err = keys{{secret: secret}}, checkSecret(secret)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &ks, nil
}

func checkSecret(secret []byte) error {
	if len(secret) < minSecret {
		return fmt.Errorf("secret of %d bytes; make one of at least %d, for example with: openssl rand -hex 32", len(secret), minSecret)
	}
	return nil
}

func parsePEM(data []byte) (keys, error) {
	var ks keys
	for n := 1; ; n++ {
		block, rest := pem.Decode(data)
		if block == nil {
			if len(bytes.TrimSpace(data)) > 0 {
				return nil, fmt.Errorf("PEM block %d cannot be read; keep nothing but whole blocks in the file", n)
			}
			break
		}
		data = rest
		pub, err := parseBlock(block)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d (%.40s): %w", n, block.Type, err)
		}
		k, err := publicKey(pub)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d: %w", n, err)
		}
		if ks = append(ks, k); len(ks) > maxKeys {
			return nil, fmt.Errorf("more than %d keys", maxKeys)
		}
	}
	return ks, nil
}

func parseBlock(b *pem.Block) (any, error) {
	switch b.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(b.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(b.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	return nil, errors.New("want PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE; private keys stay with who issues the tokens")
}

// publicKey takes the kinds of keys that tokens may be signed with.
func publicKey(pub any) (key, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if n := pub.N.BitLen(); n < minRSA || n > maxRSA {
			return key{}, fmt.Errorf("RSA key of %d bits, want %d to %d", n, minRSA, maxRSA)
		}
		return key{rsa: pub}, nil
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() {
			return key{}, fmt.Errorf("curve %s, want P-256", pub.Curve.Params().Name)
		}
		return key{ecdsa: pub}, nil
	case ed25519.PublicKey:
		return key{ed25519: pub}, nil
	}
	return key{}, fmt.Errorf("key of type %T, want RSA, EC P-256 or Ed25519", pub)
}

// jwk is one key of a JWKS (RFC 7517, RFC 7518 section 6, RFC 8037).
type jwk struct {
	Kty, Kid, Alg, Use, Crv string
	N, E, X, Y, K, D        string
}

// parseJWKS skips keys that are not for signatures, and kinds it does not
// know: issuers publish them side by side.
func parseJWKS(data []byte) (keys, error) {
	var set struct{ Keys []jwk }
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("not a JWKS: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("%d keys, more than %d", len(set.Keys), maxKeys)
	}
	var ks keys
	for i, j := range set.Keys {
		if j.Use != "" && j.Use != "sig" {
			continue
		}
		k, ok, err := j.key()
		if err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		if ok {
			ks = append(ks, k)
		}
	}
	if len(ks) == 0 {
		return nil, errors.New("no key for signatures of a kind that is known; want kty oct, RSA, EC with P-256 or OKP with Ed25519")
	}
	return ks, nil
}

// key returns false for kinds that are not known.
func (j jwk) key() (k key, ok bool, err error) {
	switch {
	case len(j.Kid) > maxKeyIDSize:
		return key{}, false, fmt.Errorf("kid of %d bytes, more than %d", len(j.Kid), maxKeyIDSize)
	case j.D != "":
		return key{}, false, errors.New("is a private key; leave d out, it stays with who issues the tokens")
	}
	switch {
	case j.Kty == "oct":
		var secret []byte
		if secret, err = unbase64URL(j.K); err == nil {
			k, err = key{secret: secret}, checkSecret(secret)
		}
	case j.Kty == "RSA":
		k, err = j.rsaKey()
	case j.Kty == "EC" && j.Crv == "P-256":
		k, err = j.ecKey()
	case j.Kty == "OKP" && j.Crv == "Ed25519":
		var x []byte
		if x, err = unbase64URL(j.X); err == nil && len(x) != ed25519.PublicKeySize {
			err = fmt.Errorf("x has %d bytes, want %d", len(x), ed25519.PublicKeySize)
		}
		k = key{ed25519: x}
	default:
		return key{}, false, nil
	}
	k.id, k.alg = j.Kid, j.Alg
	return k, true, err
}

func (j jwk) rsaKey() (key, error) {
	n, err := unbase64URL(j.N)
	if err != nil {
		return key{}, fmt.Errorf("n: %w", err)
	}
	e, err := unbase64URL(j.E)
	if err != nil {
		return key{}, fmt.Errorf("e: %w", err)
	}
	exp := new(big.Int).SetBytes(e)
	if exp.BitLen() > 31 || exp.Bit(0) == 0 || exp.Cmp(big.NewInt(3)) < 0 {
		return key{}, errors.New("e: want an odd number from 3 to 2^31-1, usually AQAB")
	}
	return publicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exp.Int64())})
}

func (j jwk) ecKey() (key, error) {
	x, err := unbase64URL(j.X)
	if err != nil {
		return key{}, fmt.Errorf("x: %w", err)
	}
	y, err := unbase64URL(j.Y)
	if err != nil {
		return key{}, fmt.Errorf("y: %w", err)
	}
	if len(x) != 32 || len(y) != 32 {
		return key{}, fmt.Errorf("x and y have %d and %d bytes, want 32", len(x), len(y))
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		return key{}, fmt.Errorf("x, y: %w", err)
	}
	return publicKey(pub)
}

// unbase64URL is strict: a text has one encoding, so that nobody can change a
// token and keep its signature.
func unbase64URL(s string) ([]byte, error) {
	if bytes.ContainsAny([]byte(s), "\r\n") { // which the decoder skips
		return nil, errors.New("not base64url")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("not base64url without padding")
	}
	return b, nil
}
