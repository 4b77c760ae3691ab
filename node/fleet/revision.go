// Package fleet holds configuration revisions: how one is made, signed,
// checked and chained. It owns no state of a node and does no I/O; package
// node carries revisions as bundles, applies them and reports.
//
// A revision replaces the fleet's services, routes and quotas as a whole. It is signed
// with Ed25519 and ML-DSA-65 by the authority, both must verify, and it names
// the revision before it, so that two histories cannot be mixed.
package fleet

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/storeforward/cbor"
)

// Why a revision is refused.
var (
	ErrMalformed = errors.New("revision is malformed")
	ErrSignature = errors.New("revision is not signed by this mesh's authority")
	ErrStale     = errors.New("revision is not newer than the one in force")
	ErrFork      = errors.New("revision does not follow the one in force")
	ErrContent   = errors.New("revision cannot be put in force")
)

// MaxSize bounds a signed revision, in bytes.
const MaxSize = 1 << 20

const (
	version = 1
	context = "farhop fleet revision v1"
)

// Hash names a revision: SHA-256 of its signed bytes without the signature.
type Hash [sha256.Size]byte

// Revision is one state of the fleet's configuration.
type Revision struct {
	Seq       uint64 // from 1, rising by one
	Parent    Hash   // of revision Seq-1; zero for the first
	Created   time.Time
	Resources config.Resources
	Hash      Hash
	Signed    []byte // the encoded form that travels
}

// Sign makes the revision that follows parent (nil for the first).
func Sign(by *identity.DualSigner, parent *Revision, r config.Resources, now time.Time) (*Revision, error) {
	canonical, err := r.Canonical()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrContent, err)
	}
	rev := &Revision{Seq: 1, Created: now.UTC().Truncate(time.Millisecond), Resources: r}
	if parent != nil {
		rev.Seq, rev.Parent = parent.Seq+1, parent.Hash
	}
	body := cbor.AppendArray(nil, 5)
	body = cbor.AppendUint(body, version)
	body = cbor.AppendUint(body, rev.Seq)
	body = cbor.AppendBytes(body, rev.Parent[:])
	body = cbor.AppendUint(body, uint64(max(rev.Created.UnixMilli(), 0)))
	body = cbor.AppendBytes(body, canonical)
	sig, err := by.Sign(context, body)
	if err != nil {
		return nil, fmt.Errorf("sign revision %d: %w", rev.Seq, err)
	}
	rev.Hash = sha256.Sum256(body)
	rev.Signed = cbor.AppendArray(nil, 2)
	rev.Signed = cbor.AppendBytes(cbor.AppendBytes(rev.Signed, body), sig)
	return rev, nil
}

// Open verifies and reads a signed revision. The signature is checked before
// anything inside is looked at.
func Open(signed []byte, by identity.DualPublic) (*Revision, error) {
	if len(signed) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrMalformed, len(signed), MaxSize)
	}
	r := cbor.NewReader(signed)
	if r.Array() != 2 {
		r.Fail(0, "not an array of two")
	}
	body, sig := r.Bytes(), r.Bytes()
	r.End()
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := identity.DualVerify(by, context, body, sig); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	b := cbor.NewReader(body)
	if b.Array() != 5 || b.Uint() != version {
		b.Fail(0, "not a revision of version 1")
	}
	rev := &Revision{Seq: b.Uint(), Hash: sha256.Sum256(body), Signed: bytes.Clone(signed)}
	parent := b.Bytes()
	rev.Created = time.UnixMilli(int64(b.Uint() & (1<<62 - 1))).UTC()
	canonical := b.Bytes()
	b.End()
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(parent) != len(rev.Parent) || rev.Seq == 0 {
		return nil, fmt.Errorf("%w: number %d, parent of %d bytes", ErrMalformed, rev.Seq, len(parent))
	}
	copy(rev.Parent[:], parent)
	res, err := config.ParseCanonical(canonical)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrContent, err)
	}
	rev.Resources = res
	return rev, nil
}

// Same reports whether two revisions put the same resources in force.
func (rev *Revision) Same(o *Revision) bool {
	a, err1 := rev.Resources.Canonical()
	b, err2 := o.Resources.Canonical()
	return err1 == nil && err2 == nil && bytes.Equal(a, b)
}

// Follows says whether rev may come after the one in force (nil for none). A
// node that missed revisions takes the newest: each is complete.
func (rev *Revision) Follows(inForce *Revision) error {
	switch {
	case inForce == nil:
		return nil
	case rev.Seq <= inForce.Seq:
		return fmt.Errorf("%w: it is number %d, in force is %d", ErrStale, rev.Seq, inForce.Seq)
	case rev.Seq == inForce.Seq+1 && rev.Parent != inForce.Hash:
		return fmt.Errorf("%w: number %d names another parent than the number %d that is in force", ErrFork, rev.Seq, inForce.Seq)
	}
	return nil
}
