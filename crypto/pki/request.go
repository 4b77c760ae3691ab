package pki

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/routing/addr"
)

// ErrRequest is the cause of every refusal of a join request's form.
var ErrRequest = errors.New("not a valid join request")

const (
	requestMagic   = "farhop join request v1\n"
	requestContext = "farhop join request v1"
	// MaxRequest bounds an encoded join request, in bytes.
	MaxRequest = len(requestMagic) + identity.PublicSize + 2*(1+addr.MaxName) + len(TicketID{}) + identity.SignatureSize
)

// Request asks the authority for a certificate. It is signed with both keys
// it is for, so nobody can have another node's keys certified as their own.
// The ticket's id is in the signed part: a request fits one ticket.
type Request struct {
	Keys   identity.DualPublic
	Name   addr.Node // zero: the authority makes a name
	Region addr.Region
	Ticket TicketID

	signature []byte
}

// NewRequest makes and signs a request. A zero name lets the authority choose.
func NewRequest(keys *identity.Node, name addr.Node, region addr.Region, ticket TicketID) (*Request, error) {
	r := &Request{Keys: keys.Public(), Name: name, Region: region, Ticket: ticket}
	if region.IsZero() {
		return nil, fmt.Errorf("%w: no region", ErrRequest)
	}
	sig, err := keys.Sign(requestContext, r.signed())
	if err != nil {
		return nil, fmt.Errorf("join request: %w", err)
	}
	r.signature = sig
	return r, nil
}

// Verify checks that the sender holds both secret keys.
func (r *Request) Verify() error {
	if r.Region.IsZero() {
		return fmt.Errorf("%w: no region", ErrRequest)
	}
	if err := r.Keys.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if err := identity.DualVerify(r.Keys, requestContext, r.signed(), r.signature); err != nil {
		return fmt.Errorf("%w: proof of possession: %w", ErrRequest, err)
	}
	return nil
}

// signed is the encoding without the signature:
//
//	magic | key pair (1984) | length, name | length, region | ticket id (16)
func (r *Request) signed() []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddBytes([]byte(requestMagic))
	b.AddBytes(r.Keys.Bytes())
	addString(b, r.Name.String())
	addString(b, r.Region.String())
	b.AddBytes(r.Ticket[:])
	return b.BytesOrPanic() // names are bounded by routing/addr
}

// Encode returns the request for the wire, at most MaxRequest bytes.
func (r *Request) Encode() []byte { return append(r.signed(), r.signature...) }

// ParseRequest reads a request and checks its proof (Verify).
func ParseRequest(data []byte) (*Request, error) {
	if len(data) > MaxRequest {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrRequest, len(data), MaxRequest)
	}
	s := cryptobyte.String(data)
	var magic, pair []byte
	var name, region string
	r := new(Request)
	if !s.ReadBytes(&magic, len(requestMagic)) || string(magic) != requestMagic {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrRequest, requestMagic)
	}
	if !s.ReadBytes(&pair, identity.PublicSize) || !readString(&s, &name) || !readString(&s, &region) ||
		!s.CopyBytes(r.Ticket[:]) || len(s) != identity.SignatureSize {
		return nil, fmt.Errorf("%w: its parts do not fit in %d bytes", ErrRequest, len(data))
	}
	r.signature = append([]byte(nil), s...)
	var err error
	if r.Keys, err = identity.ParseDualPublic(pair); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if name != "" {
		if r.Name, err = addr.ParseNode(name); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRequest, err)
		}
	}
	if r.Region, err = addr.ParseRegion(region); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if err := r.Verify(); err != nil {
		return nil, err
	}
	return r, nil
}
