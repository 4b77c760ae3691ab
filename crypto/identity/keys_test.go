package identity

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNodeSaveLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "id")
	n, created, err := LoadOrNew(dir)
	if err != nil || !created {
		t.Fatalf("LoadOrNew = created %v, %v", created, err)
	}
	again, created, err := LoadOrNew(dir)
	if err != nil || created || !again.Public().Equal(n.Public()) {
		t.Fatalf("second LoadOrNew: created %v, %v", created, err)
	}
	sig, err := again.Sign("test", []byte("m"))
	if err != nil || DualVerify(n.Public(), "test", []byte("m"), sig) != nil {
		t.Error("the loaded key does not sign for the saved one")
	}
	if err := n.Save(dir); err != nil {
		t.Errorf("saving the same key again: %v", err)
	}
	if err := New().Save(dir); !errors.Is(err, ErrExists) {
		t.Errorf("overwriting a key: %v, want ErrExists", err)
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, NodeKeyFile): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", path, st.Mode(), err, want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("directory holds %v, %v; want the key alone", entries, err)
	}
}

func TestLoadRefuses(t *testing.T) {
	n := New()
	whole := append([]byte("farhop node key, keep it secret\n"), n.encode()...)
	other := New().encode()
	authority := NewAuthority()
	for _, c := range []struct {
		name string
		file func(t *testing.T, dir, path string)
		is   error
		text string
	}{
		{"missing", func(*testing.T, string, string) {}, fs.ErrNotExist, "farhop init"},
		{"readable by others", write(whole, 0o644), ErrTooOpen, "run: chmod 600 "},
		{"readable by group", write(whole, 0o640), ErrTooOpen, "run: chmod 600 "},
		{"open directory", func(t *testing.T, dir, path string) {
			write(whole, 0o600)(t, dir, path)
			chmod(t, dir, 0o777)
		}, ErrTooOpen, "run: chmod 700 "},
		{"a directory", func(t *testing.T, dir, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, nil, "not a regular file"},
		{"empty", write(nil, 0o600), ErrCorrupt, "no fingerprint"},
		{"huge", write(bytes.Repeat([]byte("x"), MaxFile+1), 0o600), nil, "larger than"},
		{"cut short", write(whole[:len(whole)-40], 0o600), ErrCorrupt, "damaged PEM"},
		{"one key only", write(whole[:bytes.LastIndex(whole, []byte("-----BEGIN"))], 0o600), ErrCorrupt, "1 keys, want 2"},
		{"other keys under the fingerprint", write(splice(whole, other), 0o600), ErrCorrupt, "fingerprint"},
		{"no title line", write(encodeKeys([32]byte{}, [][]byte{marshalEd25519(n.ed), marshalEd25519(n.ed)}), 0o600), ErrCorrupt, "fingerprint line"},
		{"keys in the wrong order", write(titled(encodeKeys([32]byte{}, [][]byte{marshalMLDSA(n.ml), marshalEd25519(n.ed)})), 0o600), ErrCorrupt, ""},
		{"Ed25519 twice", write(titled(encodeKeys([32]byte{}, [][]byte{marshalEd25519(n.ed), marshalEd25519(n.ed)})), 0o600), ErrCorrupt, "where ML-DSA-65 belongs"},
		{"a root key", write(titled(encodeKeys([32]byte{}, [][]byte{marshalEd25519(authority.Root)})), 0o600), ErrCorrupt, "1 keys"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			chmod(t, dir, 0o700)
			path := filepath.Join(dir, NodeKeyFile)
			c.file(t, dir, path)
			_, err := Load(dir)
			if err == nil || c.is != nil && !errors.Is(err, c.is) {
				t.Fatalf("error = %v, want %v", err, c.is)
			}
			if msg := err.Error(); !strings.Contains(msg, c.text) || !strings.Contains(msg, dir) {
				t.Errorf("error %q does not name %q and %q", msg, c.text, dir)
			}
			if _, created, err := LoadOrNew(dir); created != (c.is == fs.ErrNotExist) {
				t.Errorf("LoadOrNew = created %v, %v", created, err)
			}
		})
	}
}

func TestAuthoritySaveLoad(t *testing.T) {
	dir := t.TempDir()
	chmod(t, dir, 0o700)
	if _, err := LoadAuthority(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "farhop init") {
		t.Errorf("no authority: %v", err)
	}
	a := NewAuthority()
	if err := a.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := LoadAuthority(dir)
	if err != nil || !got.Root.Equal(a.Root) || !got.Fleet.Public().Equal(a.Fleet.Public()) {
		t.Fatalf("loaded authority differs: %v", err)
	}
	if err := NewAuthority().Save(dir); !errors.Is(err, ErrExists) {
		t.Errorf("overwriting an authority: %v", err)
	}
}

func TestAuthorityRefusesOneKeyForTwoUses(t *testing.T) {
	dir := t.TempDir()
	chmod(t, dir, 0o700)
	a := NewAuthority()
	a.Root = a.Fleet.ed
	if err := a.Save(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAuthority(dir); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "must differ") {
		t.Errorf("shared key: %v", err)
	}
}

func TestWriteFileReplacesWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	// A temporary file left by a power cut must not stand in the way.
	if err := os.WriteFile(filepath.Join(dir, ".f.tmp"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first, longer", "second"} {
		if err := WriteFile(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadSecret(path); err != nil || string(got) != want {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	}
	if err := WriteFile(filepath.Join(dir, "none", "f"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func FuzzDecodeKeys(f *testing.F) {
	n := New()
	f.Add(titled(n.encode()))
	f.Add(titled(encodeKeys([32]byte{}, nil)))
	f.Add([]byte("\nfingerprint: 00\n-----BEGIN PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		blocks, _, err := decodeKeys("f", data, 2)
		if err != nil {
			return
		}
		for _, b := range blocks {
			if seed, err := parseMLDSA(b); err == nil && seed == nil {
				t.Error("no seed and no error")
			}
			if ed, err := parseEd25519(b); err == nil && len(ed) != 64 {
				t.Errorf("Ed25519 key of %d bytes", len(ed))
			}
		}
	})
}

func titled(body []byte) []byte { return append([]byte("farhop node key\n"), body...) }

// splice puts the key blocks of b under the fingerprint of a.
func splice(a, b []byte) []byte {
	const begin = "-----BEGIN"
	head, _, _ := bytes.Cut(a, []byte(begin))
	_, tail, _ := bytes.Cut(b, []byte(begin))
	return append(append(bytes.Clone(head), begin...), tail...)
}

func write(data []byte, mode fs.FileMode) func(*testing.T, string, string) {
	return func(t *testing.T, _, path string) {
		t.Helper()
		if err := os.WriteFile(path, data, mode); err != nil {
			t.Fatal(err)
		}
		chmod(t, path, mode) // whatever the umask
	}
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
