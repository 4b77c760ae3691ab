package storetest

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
)

// Spoil changes a byte of a text wherever a file below dir holds it.
func Spoil(t TB, dir, text string) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if n := bytes.Count(data, []byte(text)); n > 0 && err == nil {
			found += n
			err = os.WriteFile(path, bytes.ReplaceAll(data, []byte(text), []byte("X"+text[1:])), 0o600)
		}
		return err
	})
	if err != nil || found == 0 {
		t.Fatalf("%q is nowhere below %s: %v", text, dir, err)
	}
}
