package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
)

// Sizes in bytes.
const (
	PublicSize    = ed25519.PublicKeySize + mldsa65.PublicKeySize // 32 + 1952
	SignatureSize = ed25519.SignatureSize + mldsa65.SignatureSize // 64 + 3309
	MaxContext    = 255                                           // FIPS 204, section 5.2
)

// ErrSignature is the cause of every refused signature.
var ErrSignature = errors.New("invalid dual signature")

// dualPrefix opens what the Ed25519 half signs. It keeps dual signatures apart
// from the TLS handshake signatures of the same key (RFC 8446, section 4.4.3:
// those start with 64 spaces).
const dualPrefix = "farhop dual signature v1\x00"

// DualPublic is the public half of a DualSigner.
type DualPublic struct {
	Ed25519 ed25519.PublicKey
	MLDSA   *mldsa65.PublicKey
}

// ParseDualPublic reads what Bytes wrote. Every string of PublicSize bytes is
// some pair of keys, so only the length can be wrong.
func ParseDualPublic(b []byte) (DualPublic, error) {
	if len(b) != PublicSize {
		return DualPublic{}, fmt.Errorf("public key pair: %d bytes, want %d", len(b), PublicSize)
	}
	ml := new(mldsa65.PublicKey)
	if err := ml.UnmarshalBinary(b[ed25519.PublicKeySize:]); err != nil {
		return DualPublic{}, fmt.Errorf("public key pair: %w", err)
	}
	ed := append(ed25519.PublicKey(nil), b[:ed25519.PublicKeySize]...)
	return DualPublic{Ed25519: ed, MLDSA: ml}, nil
}

// Validate reports a missing or wrongly sized key.
func (p DualPublic) Validate() error {
	if len(p.Ed25519) != ed25519.PublicKeySize {
		return fmt.Errorf("Ed25519 public key: %d bytes, want %d", len(p.Ed25519), ed25519.PublicKeySize)
	}
	if p.MLDSA == nil {
		return errors.New("ML-DSA-65 public key: missing")
	}
	return nil
}

// Bytes returns the Ed25519 key followed by the ML-DSA-65 key, PublicSize
// bytes. p must be valid.
func (p DualPublic) Bytes() []byte {
	b := make([]byte, 0, PublicSize)
	b = append(b, p.Ed25519...)
	return append(b, p.MLDSA.Bytes()...)
}

// Hash names the pair: SHA-256 of Bytes.
func (p DualPublic) Hash() [32]byte { return sha256.Sum256(p.Bytes()) }

// MLDSAHash is SHA-256 of the ML-DSA-65 key alone: what a certificate pins.
func (p DualPublic) MLDSAHash() [32]byte { return sha256.Sum256(p.MLDSA.Bytes()) }

// Equal reports whether both keys are the same.
func (p DualPublic) Equal(o DualPublic) bool {
	return p.Validate() == nil && o.Validate() == nil && p.Ed25519.Equal(o.Ed25519) && p.MLDSA.Equal(o.MLDSA)
}

// DualSigner signs with an Ed25519 and an ML-DSA-65 key at once: a forger must
// break both.
type DualSigner struct {
	ed  ed25519.PrivateKey
	ml  *mldsa65.PrivateKey
	pub DualPublic
}

// NewDualSigner makes a pair from the system's random source.
func NewDualSigner() *DualSigner {
	var ed [ed25519.SeedSize]byte
	var ml [mldsa65.SeedSize]byte
	rand.Read(ed[:]) // never fails: crypto/rand ends the program instead
	rand.Read(ml[:])
	return signerFromSeeds(&ed, &ml)
}

func signerFromSeeds(edSeed *[ed25519.SeedSize]byte, mlSeed *[mldsa65.SeedSize]byte) *DualSigner {
	ed := ed25519.NewKeyFromSeed(edSeed[:])
	pk, sk := mldsa65.NewKeyFromSeed(mlSeed)
	return &DualSigner{ed: ed, ml: sk, pub: DualPublic{Ed25519: ed.Public().(ed25519.PublicKey), MLDSA: pk}}
}

// Public returns the public pair.
func (s *DualSigner) Public() DualPublic { return s.pub }

// Sign signs msg for one use, named by context (1 to MaxContext bytes, such as
// "farhop fleet revision v1"). A signature made for one context is invalid in
// every other. The result has SignatureSize bytes: Ed25519, then ML-DSA-65.
func (s *DualSigner) Sign(context string, msg []byte) ([]byte, error) {
	m, err := framed(context, msg)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	sig := make([]byte, SignatureSize)
	copy(sig, ed25519.Sign(s.ed, m))
	// Randomized (FIPS 204 "hedged"): a fault in one run does not leak the key.
	if err := mldsa65.SignTo(s.ml, m, []byte(context), true, sig[ed25519.SignatureSize:]); err != nil {
		return nil, fmt.Errorf("sign: ML-DSA-65: %w", err)
	}
	return sig, nil
}

// Format prints a short fingerprint whatever the verb, so that no log or
// panic message can ever show a secret key.
func (s *DualSigner) Format(f fmt.State, _ rune) {
	if s == nil || s.ml == nil {
		io.WriteString(f, "keys(none)")
		return
	}
	h := s.pub.Hash()
	io.WriteString(f, "keys("+hex.EncodeToString(h[:4])+")")
}

// DualVerify checks a signature of DualSigner.Sign. Both halves must hold; the
// error says which one did not and is always ErrSignature.
func DualVerify(pub DualPublic, context string, msg, sig []byte) error {
	if err := pub.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if len(sig) != SignatureSize {
		return fmt.Errorf("%w: %d bytes, want %d", ErrSignature, len(sig), SignatureSize)
	}
	m, err := framed(context, msg)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	edOK := ed25519.Verify(pub.Ed25519, m, sig[:ed25519.SignatureSize])
	mlOK := mldsa65.Verify(pub.MLDSA, m, []byte(context), sig[ed25519.SignatureSize:])
	switch {
	case edOK && mlOK:
		return nil
	case edOK:
		return fmt.Errorf("%w: the ML-DSA-65 half does not verify (%s)", ErrSignature, context)
	case mlOK:
		return fmt.Errorf("%w: the Ed25519 half does not verify (%s)", ErrSignature, context)
	}
	return fmt.Errorf("%w: neither half verifies (%s)", ErrSignature, context)
}

// framed puts the context into the message itself, because plain Ed25519 knows
// no contexts; ML-DSA takes it as well, as its own parameter.
func framed(context string, msg []byte) ([]byte, error) {
	if len(context) == 0 || len(context) > MaxContext {
		return nil, fmt.Errorf("signature context of %d bytes, want 1 to %d", len(context), MaxContext)
	}
	m := make([]byte, 0, len(dualPrefix)+1+len(context)+len(msg))
	m = append(m, dualPrefix...)
	m = append(m, byte(len(context)))
	m = append(m, context...)
	return append(m, msg...), nil
}
