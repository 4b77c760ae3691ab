package broker

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

const (
	maxUsers      = 100_000
	maxRemembered = 16_384
	bcryptAtOnce  = 2 // a reconnect storm must leave the CPU to those who are in
)

// ParseUsers reads lines of "user:bcrypt-hash" (as htpasswd -B writes them).
// Empty lines and lines that start with '#' are skipped. name is used in
// errors only.
func ParseUsers(name string, r io.Reader) (map[string]string, error) {
	users := make(map[string]string)
	sc := bufio.NewScanner(r)
	for line := 1; sc.Scan(); line++ {
		text := strings.TrimSpace(sc.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		user, hash, ok := strings.Cut(text, ":")
		if !ok || user == "" {
			return nil, fmt.Errorf("%s:%d: want user:hash, for example from: farhop passwd USER", name, line)
		}
		if _, dup := users[user]; dup {
			return nil, fmt.Errorf("%s:%d: user %q is here twice", name, line, user)
		}
		if _, err := bcrypt.Cost([]byte(hash)); err != nil {
			return nil, fmt.Errorf("%s:%d: password of %q is no bcrypt hash: make one with: farhop passwd %s", name, line, user, user)
		}
		if len(users) == maxUsers {
			return nil, fmt.Errorf("%s:%d: more than %d users", name, line, maxUsers)
		}
		users[user] = hash
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return users, nil
}

func checkUsers(users map[string]string) error {
	var errs []error
	for user, hash := range users {
		if _, err := bcrypt.Cost([]byte(hash)); err != nil {
			errs = append(errs, fmt.Errorf("mqtt.users: password of %q is no bcrypt hash: %w", user, err))
		}
	}
	return errors.Join(errs...)
}

// authenticator checks passwords. bcrypt costs tens of milliseconds of CPU, so
// few run at once, and a password that was right is remembered as an HMAC
// under a key that lives as long as the process.
type authenticator struct {
	users map[string]string
	dummy []byte // hash to compare with for unknown users, so that they take as long
	turn  chan struct{}
	key   [32]byte

	mu    sync.Mutex
	known map[[32]byte]struct{} // guarded by mu
}

func newAuthenticator(users map[string]string) (*authenticator, error) {
	a := &authenticator{users: users, turn: make(chan struct{}, bcryptAtOnce), known: make(map[[32]byte]struct{})}
	if _, err := rand.Read(a.key[:]); err != nil {
		return nil, fmt.Errorf("mqtt users: %w", err)
	}
	for _, hash := range users {
		a.dummy = []byte(hash)
		break
	}
	return a, nil
}

// check reports whether the password is the user's.
func (a *authenticator) check(ctx context.Context, user string, password []byte) bool {
	hash, found := a.users[user]
	mac := hmac.New(sha256.New, a.key[:])
	fmt.Fprintf(mac, "%d:%s:%s:", len(user), user, hash)
	mac.Write(password)
	sum := [32]byte(mac.Sum(nil))
	a.mu.Lock()
	_, known := a.known[sum]
	a.mu.Unlock()
	if known && found {
		return true
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return false
	}
	if !found {
		_ = bcrypt.CompareHashAndPassword(a.dummy, password)
		return false
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), password) != nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxRemembered {
		clear(a.known)
	}
	a.known[sum] = struct{}{}
	return true
}
