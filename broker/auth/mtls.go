package auth

import (
	"context"
	"fmt"
	"slices"

	"github.com/farhop/farhop/routing/policy"
)

// mtls lets in whoever has a certificate that TLS verified.
type mtls struct {
	sameID bool // the client id must be one of its names
	asUser bool // its first name is its user name
}

// Authenticate implements Authenticator. It does not know clients without a
// certificate. Who has one needs no password.
func (m mtls) Authenticate(_ context.Context, c Client) (*Identity, error) {
	if len(c.Names) == 0 {
		return nil, ErrUnknown
	}
	if m.sameID && (c.ID == "" || !slices.ContainsFunc(c.Names, func(n string) bool { return policy.ShortName(n) == c.ID })) {
		return nil, fmt.Errorf("%w: client id %.100q is no name of its certificate (%.200q)", ErrNotAuthorized, c.ID, c.Names)
	}
	if m.asUser {
		return identity(c, policy.ShortName(c.Names[0])), nil
	}
	return identity(c, ""), nil
}
