package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
)

const (
	maxUsers      = 100_000
	maxUsersFile  = 32 << 20 // bytes
	maxRemembered = 16_384
	hashesAtOnce  = 2 // a reconnect storm must leave the CPU to those who are in
)

// passwords is a parsed password file.
type passwords struct {
	users map[string]hash
	dummy *hash // what unknown users are compared with, so that they take as long; nil without users
}

// parsePasswords reads lines of "user:hash" (as htpasswd -B and farhop passwd
// write them). Empty lines and lines that start with '#' are skipped. name is
// used in errors only.
func parsePasswords(name string, data []byte) (*passwords, error) {
	p := &passwords{users: make(map[string]hash)}
	line := 0
	for text := range bytes.Lines(data) {
		line++
		text = bytes.TrimSpace(text)
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		user, rest, ok := strings.Cut(string(text), ":")
		if !ok || user == "" {
			return nil, fmt.Errorf("%s:%d: want user:hash, for example from: farhop passwd USER", name, line)
		}
		if _, dup := p.users[user]; dup {
			return nil, fmt.Errorf("%s:%d: user %q is here twice", name, line, user)
		}
		h, err := parseHash(rest)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: password of %q: %w: make one with: farhop passwd %s", name, line, user, err, user)
		}
		if len(p.users) == maxUsers {
			return nil, fmt.Errorf("%s:%d: more than %d users", name, line, maxUsers)
		}
		p.users[user] = h
		if p.dummy == nil {
			p.dummy = &h
		}
	}
	return p, nil
}

// users checks passwords. A hash costs tens of milliseconds of CPU, so few are
// made at once, and a password that was right is remembered as an HMAC under a
// key that lives as long as the process.
type users struct {
	file *watched[passwords]
	turn chan struct{}
	key  [32]byte

	mu    sync.Mutex
	known map[[32]byte]struct{} // guarded by mu
}

func newUsers(file *watched[passwords]) (*users, error) {
	u := &users{file: file, turn: make(chan struct{}, hashesAtOnce), known: make(map[[32]byte]struct{})}
	if _, err := rand.Read(u.key[:]); err != nil {
		return nil, fmt.Errorf("key for remembered passwords: %w", err)
	}
	return u, nil
}

// Authenticate implements Authenticator. It does not know clients without a
// user name, nor users that are not in the file.
func (u *users) Authenticate(ctx context.Context, c Client) (*Identity, error) {
	if !c.HasUser {
		return nil, ErrUnknown
	}
	table := u.file.get()
	h, found := table.users[c.User]
	sum := u.sum(c, h.text)
	u.mu.Lock()
	_, known := u.known[sum]
	u.mu.Unlock()
	if known && found {
		return identity(c, c.User), nil
	}
	select {
	case u.turn <- struct{}{}:
		defer func() { <-u.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: the password was not checked in time: %w", ErrUnavailable, ctx.Err())
	}
	if !found {
		if table.dummy != nil {
			table.dummy.matches(c.Password)
		}
		return nil, ErrUnknown
	}
	if !h.matches(c.Password) {
		return nil, fmt.Errorf("%w: wrong password of user %.100q", ErrRefused, c.User)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.known) >= maxRemembered {
		clear(u.known)
	}
	u.known[sum] = struct{}{}
	return identity(c, c.User), nil
}

// sum names a user, its hash in the file and a password: when the hash
// changes, what was remembered is worth nothing.
func (u *users) sum(c Client, hash string) [32]byte {
	mac := hmac.New(sha256.New, u.key[:])
	fmt.Fprintf(mac, "%d:%s:%s:", len(c.User), c.User, hash)
	mac.Write(c.Password)
	return [32]byte(mac.Sum(nil))
}
