// Package auth decides who may come in over MQTT and what those who came in
// may publish and subscribe to.
//
// It owns the ways to prove who one is (password files, client certificates,
// signed tokens, a question to an HTTP server), the file formats of passwords
// and access rules, and Rules, which asks the compiled rules of routing/policy.
// It knows neither packets nor sessions: package broker asks it, with the
// facts of a CONNECT or the topic of a PUBLISH, and package node builds it
// from the configuration. docs/auth.md shows the files.
//
//	a, err := auth.New(cfg, auth.Deps{Log: log, Registerer: reg})
//	group.Go(func() error { return a.Run(ctx) }) // sees that files changed
//	id, err := a.Chain.Authenticate(ctx, auth.Client{ID: "plc-7", User: "plc", HasUser: true, Password: pw})
//	if err != nil {
//		return auth.Reason(err) // of the CONNACK
//	}
//	if !a.Rules.Allow(id, "plant/1/temp", true) { ... }
package auth

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/routing/policy"
)

// Client is who asks to come in.
type Client struct {
	ID       string // client id, "" if the server is to choose one
	User     string
	HasUser  bool
	Password []byte
	Names    []string // of its verified certificate: SPIFFE ids, then DNS names, then the common name
	// Remote is its address, IP:PORT, or what a trusted proxy says it is.
	Remote    string
	Transport string // such as tcp, tls, ws, quic
}

// Identity is who came in: what rules speak of. It is handed around by
// pointer. Client has to be in place before the first question to Rules: set
// it when the server chose the client id.
type Identity struct {
	Client     string
	User       string            // "" for none; never a name that nobody verified
	Names      []string          // of its certificate
	Attributes map[string]string // that came with its token or certificate, not to be changed
	Rules      *policy.Access    // more rules that came with the token, nil = none
	// Expires is when what it came in with ends, zero for never. The connection
	// should end then.
	Expires time.Time

	bound atomic.Pointer[bound] // owned by Rules
}

// Errors of Authenticate. Any other error means that nobody could tell now.
var (
	ErrUnknown       = errors.New("client is not known here")      // ask the next
	ErrRefused       = errors.New("bad user name or password")     // 0x86
	ErrNotAuthorized = errors.New("client is not authorized")      // 0x87
	ErrUnavailable   = errors.New("cannot authenticate right now") // 0x88
)

// Reason returns the reason code of a CONNACK (MQTT 5, 3.2.2.2) for an error
// of Authenticate, 0 for nil.
func Reason(err error) byte {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrRefused):
		return 0x86
	case errors.Is(err, ErrMethod):
		return 0x8C
	case errors.Is(err, ErrNotAuthorized), errors.Is(err, ErrUnknown):
		return 0x87
	}
	return 0x88
}

// Authenticator is one way to come in. It may take long and is called by many
// goroutines at once; ctx ends when the client goes.
type Authenticator interface {
	Authenticate(ctx context.Context, c Client) (*Identity, error)
}

// Chain asks one after the other until one knows the client. Whom none knows
// is refused: with ErrRefused if it brought a user name or a password, with
// ErrNotAuthorized if it brought nothing.
type Chain []Authenticator

// Authenticate implements Authenticator.
func (chain Chain) Authenticate(ctx context.Context, c Client) (*Identity, error) {
	for _, a := range chain {
		id, err := a.Authenticate(ctx, c)
		if err == nil || !errors.Is(err, ErrUnknown) {
			return id, err
		}
	}
	if c.HasUser || len(c.Password) > 0 {
		return nil, fmt.Errorf("%w: no authentication method knows the client", ErrRefused)
	}
	return nil, fmt.Errorf("%w: it brought neither user name nor certificate", ErrNotAuthorized)
}

// identity is what every way in gives: the certificate was verified by TLS,
// whoever asks for a password besides.
func identity(c Client, user string) *Identity {
	return &Identity{Client: c.ID, User: user, Names: c.Names}
}

// anonymous lets in those who bring nothing. Where no method asks for a
// password, those who bring one are let in too, without their name: nobody
// verified it.
type anonymous struct{ passwords bool }

func (a anonymous) Authenticate(_ context.Context, c Client) (*Identity, error) {
	if a.passwords && (c.HasUser || len(c.Password) > 0) {
		return nil, ErrUnknown
	}
	return identity(c, ""), nil
}
