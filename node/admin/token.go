package admin

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/farhop/farhop/crypto/identity"
)

const (
	// TokenFile holds the bearer token, in the data directory: 32 random bytes
	// in hex, for the eyes of the directory's owner alone.
	TokenFile = "admin.token"
	// AddrFile holds the address bound last, in the data directory, which is where
	// clients go: port 0 and flags make it another one than admin.listen.
	AddrFile = "admin.addr"

	tokenBytes = 32
)

// readToken reads the token in dir. fs.ErrNotExist: no server ever ran there.
func readToken(dir string) (string, error) {
	path := filepath.Join(dir, TokenFile)
	data, err := identity.ReadSecret(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if raw, err := hex.DecodeString(token); err != nil || len(raw) != tokenBytes {
		return "", fmt.Errorf("%s does not hold %d hex digits; remove it, and the daemon makes a new one when it starts", path, 2*tokenBytes)
	}
	return token, nil
}

// readOrMakeToken reads the token in dir, or makes one.
func readOrMakeToken(dir string) (string, error) {
	token, err := readToken(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return token, err
	}
	raw := make([]byte, tokenBytes)
	_, _ = rand.Read(raw) // never fails, see its documentation
	token = hex.EncodeToString(raw)
	return token, identity.WriteFile(filepath.Join(dir, TokenFile), []byte(token+"\n"))
}
