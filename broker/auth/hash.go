package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// Algorithms of Hash.
const (
	Bcrypt   = "bcrypt"
	Argon2id = "argon2id"
)

// Limits of the hashes in a password file: whoever can write a line there must
// not be able to stop the node with it.
const (
	maxBcryptCost    = 16        // about 4 s
	maxArgonMemory   = 128 << 10 // KiB
	maxArgonTime     = 10
	maxArgonThreads  = 16
	minSalt, maxSalt = 8, 64
	minKey, maxKey   = 16, 64
)

// What Hash uses: the second choice of OWASP's list of 2023, so that a small
// gateway can check passwords too.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
)

// ErrHash is the cause of the refusals of password hashes.
var ErrHash = errors.New("invalid password hash")

// hash is a parsed password hash: of bcrypt if cost is set, of argon2id
// otherwise.
type hash struct {
	text string
	cost int

	memory, time uint32 // KiB, passes
	threads      uint8
	salt, key    []byte
}

// Hash makes the hash of a password for a line of a password file. algorithm
// is Bcrypt, Argon2id or "" for Argon2id.
func Hash(password []byte, algorithm string) (string, error) {
	switch algorithm {
	case Bcrypt:
		h, err := bcrypt.GenerateFromPassword(password, bcrypt.DefaultCost)
		if errors.Is(err, bcrypt.ErrPasswordTooLong) {
			return "", fmt.Errorf("bcrypt takes passwords of at most 72 bytes; choose a shorter one, or argon2id: %w", err)
		}
		return string(h), err
	case "", Argon2id:
		salt := make([]byte, 16)
		if _, err := rand.Read(salt); err != nil {
			return "", fmt.Errorf("salt: %w", err)
		}
		key := argon2.IDKey(password, salt, argonTime, argonMemory, argonThreads, 32)
		b64 := base64.RawStdEncoding
		return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
			b64.EncodeToString(salt), b64.EncodeToString(key)), nil
	}
	return "", fmt.Errorf("unknown algorithm %q; choose %s or %s", algorithm, Argon2id, Bcrypt)
}

// parseHash reads a bcrypt hash ($2a$, $2b$ or $2y$) or an argon2id one in the
// PHC string format: $argon2id$v=19$m=KIB,t=PASSES,p=THREADS$SALT$KEY.
func parseHash(s string) (hash, error) {
	if !strings.HasPrefix(s, "$argon2") {
		return parseBcrypt(s)
	}
	f := strings.Split(s, "$")
	switch {
	case len(f) != 6:
		return hash{}, fmt.Errorf("%w: want $argon2id$v=19$m=...,t=...,p=...$SALT$KEY", ErrHash)
	case f[1] != "argon2id":
		return hash{}, fmt.Errorf("%w: %.20q, only argon2id is taken", ErrHash, f[1])
	case f[2] != "v=19":
		return hash{}, fmt.Errorf("%w: version %.20q, want v=19", ErrHash, f[2])
	}
	h := hash{text: s}
	if err := h.parameters(f[3]); err != nil {
		return hash{}, err
	}
	var err error
	if h.salt, err = unbase64(f[4], minSalt, maxSalt); err != nil {
		return hash{}, fmt.Errorf("%w: salt: %w", ErrHash, err)
	}
	if h.key, err = unbase64(f[5], minKey, maxKey); err != nil {
		return hash{}, fmt.Errorf("%w: key: %w", ErrHash, err)
	}
	return h, nil
}

func parseBcrypt(s string) (hash, error) {
	cost, err := bcrypt.Cost([]byte(s))
	switch {
	case err != nil:
		return hash{}, fmt.Errorf("%w: neither bcrypt nor argon2id", ErrHash)
	case cost > maxBcryptCost:
		return hash{}, fmt.Errorf("%w: bcrypt cost %d, at most %d is taken", ErrHash, cost, maxBcryptCost)
	case len(s) != 60:
		return hash{}, fmt.Errorf("%w: a bcrypt hash has 60 bytes, not %d", ErrHash, len(s))
	}
	return hash{text: s, cost: cost}, nil
}

// parameters reads m=KIB,t=PASSES,p=THREADS.
func (h *hash) parameters(s string) error {
	f := strings.Split(s, ",")
	if len(f) != 3 {
		return fmt.Errorf("%w: parameters %.40q, want m=KIB,t=PASSES,p=THREADS", ErrHash, s)
	}
	var v [3]uint32
	for i, p := range []struct {
		name string
		most uint64
	}{{"m", maxArgonMemory}, {"t", maxArgonTime}, {"p", maxArgonThreads}} {
		digits, ok := strings.CutPrefix(f[i], p.name+"=")
		n, err := strconv.ParseUint(digits, 10, 32)
		switch {
		case !ok || err != nil || strconv.FormatUint(n, 10) != digits:
			return fmt.Errorf("%w: parameter %.40q, want %s=NUMBER", ErrHash, f[i], p.name)
		case n < 1 || n > p.most:
			return fmt.Errorf("%w: %s=%d, want 1 to %d", ErrHash, p.name, n, p.most)
		}
		v[i] = uint32(n)
	}
	if h.memory, h.time, h.threads = v[0], v[1], uint8(v[2]); h.memory < 8*v[2] {
		return fmt.Errorf("%w: m=%d, want at least 8 for each of %d threads (RFC 9106, 3.1)", ErrHash, v[0], v[2])
	}
	return nil
}

func unbase64(s string, least, most int) ([]byte, error) {
	if len(s) > base64.RawStdEncoding.EncodedLen(most) {
		return nil, fmt.Errorf("more than %d bytes", most)
	}
	b, err := base64.RawStdEncoding.Strict().DecodeString(s)
	switch {
	case err != nil || strings.ContainsAny(s, "\r\n"): // which the decoder skips
		return nil, errors.New("not base64 without padding")
	case len(b) < least:
		return nil, fmt.Errorf("%d bytes, want at least %d", len(b), least)
	}
	return b, nil
}

// matches reports whether it is the hash of the password. It takes long.
func (h *hash) matches(password []byte) bool {
	if h.cost > 0 {
		return bcrypt.CompareHashAndPassword([]byte(h.text), password) == nil
	}
	key := argon2.IDKey(password, h.salt, h.time, h.memory, h.threads, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}
