package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestHash(t *testing.T) {
	for _, algorithm := range []string{"", Bcrypt} {
		s, err := Hash([]byte("pässword"), algorithm)
		if err != nil {
			t.Fatal(err)
		}
		h, err := parseHash(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if !h.matches([]byte("pässword")) || (h.cost > 0) != (algorithm == Bcrypt) {
			t.Errorf("%q: %s does not match", algorithm, s)
		}
	}
	if _, err := Hash([]byte("x"), "md5"); err == nil || !strings.Contains(err.Error(), "choose argon2id or bcrypt") {
		t.Errorf("md5: %v", err)
	}
	if _, err := Hash([]byte(strings.Repeat("x", 73)), Bcrypt); err == nil || !strings.Contains(err.Error(), "72 bytes") {
		t.Errorf("73 bytes: %v", err)
	}
}

// foreignHashes are of "password", by other programs: two test vectors of the
// reference implementation of argon2, and one of crypt(3) of libxcrypt.
var foreignHashes = []string{
	"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
	"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
	"$2b$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm",
}

func TestForeignHashes(t *testing.T) {
	for _, s := range foreignHashes {
		h, err := parseHash(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		if !h.matches([]byte("password")) || h.matches([]byte("passwort")) {
			t.Errorf("%s does not tell passwords apart", s)
		}
	}
}

const (
	goodSalt = "YWFhYWFhYWE"
	goodKey  = "YWFhYWFhYWFhYWFhYWFhYQ"
)

func TestParseHashFaults(t *testing.T) {
	ok := fmt.Sprintf("$argon2id$v=19$m=64,t=1,p=1$%s$%s", goodSalt, goodKey)
	if _, err := parseHash(ok); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"argon2i", "argon2id", "argon2i", "only argon2id"},
		{"old version", "v=19", "v=16", "want v=19"},
		{"no version", "v=19$", "", "want $argon2id$v=19"},
		{"gigabytes", "m=64", "m=1048576", "m=1048576, want 1 to 131072"},
		{"more than 32 bits", "m=64", "m=4294967360", "want m=NUMBER"},
		{"little memory", "p=1", "p=9", "m=64, want at least 8 for each of 9 threads"},
		{"no passes", "t=1", "t=0", "t=0, want 1 to 10"},
		{"years", "t=1", "t=100000", "t=100000, want 1 to 10"},
		{"threads", "p=1", "p=255", "p=255, want 1 to 16"},
		{"order", "m=64,t=1", "t=1,m=64", "want m=NUMBER"},
		{"leading zero", "m=64", "m=064", "want m=NUMBER"},
		{"sign", "m=64", "m=+64", "want m=NUMBER"},
		{"more parameters", "p=1", "p=1,data=x", "want m=KIB,t=PASSES,p=THREADS"},
		{"padded salt", goodSalt, goodSalt + "=", "not base64 without padding"},
		{"short salt", goodSalt, "YWE", "salt: 2 bytes, want at least 8"},
		{"long salt", goodSalt, strings.Repeat("A", 88), "salt: more than 64 bytes"},
		{"loose bits", goodKey, goodKey[:len(goodKey)-1] + "R", "not base64"},
		{"short key", goodKey, goodSalt, "key: 8 bytes, want at least 16"},
		{"newline", goodKey, goodKey[:4] + "\n" + goodKey[4:], "not base64"},
		{"bcrypt of a year", ok, "$2a$31$" + strings.Repeat("a", 53), "bcrypt cost 31, at most 16"},
		{"short bcrypt", ok, "$2a$04$" + strings.Repeat("a", 52), "60 bytes, not 59"},
		{"long bcrypt", ok, "$2a$04$" + strings.Repeat("a", 54), "60 bytes, not 61"},
		{"empty", ok, "", "neither bcrypt nor argon2id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseHash(strings.Replace(ok, c.old, c.new, 1))
			if !errors.Is(err, ErrHash) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// phc writes an argon2id hash.
func phc(h hash) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", h.memory, h.time, h.threads, b64.EncodeToString(h.salt), b64.EncodeToString(h.key))
}

// FuzzParseHash holds that what is accepted is bounded and is what it says.
func FuzzParseHash(f *testing.F) {
	f.Add(fmt.Sprintf("$argon2id$v=19$m=64,t=1,p=1$%s$%s", goodSalt, goodKey))
	for _, s := range foreignHashes {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHash(s)
		if err != nil {
			if !errors.Is(err, ErrHash) {
				t.Errorf("%q: not ErrHash: %v", s, err)
			}
			return
		}
		if h.cost > 0 {
			if h.cost > maxBcryptCost || len(s) != 60 {
				t.Errorf("%q: cost %d", s, h.cost)
			}
			return
		}
		if h.memory > maxArgonMemory || h.time > maxArgonTime || h.threads > maxArgonThreads || h.threads == 0 || h.time == 0 || h.memory < 8*uint32(h.threads) {
			t.Errorf("%q: %d KiB, %d passes, %d threads", s, h.memory, h.time, h.threads)
		}
		if again := phc(h); again != s {
			t.Errorf("%q is written %q", s, again)
		}
	})
}
