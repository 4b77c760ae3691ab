package boltstore

import (
	"errors"
	"testing"
)

// These tests exist because a bug that was planted on purpose went unnoticed
// (make mutants).

// A sound record in the place of another is no record of that place.
func TestRecordOfAnotherKey(t *testing.T) {
	val := endRecord(append(beginRecord(nil), "body"...), 0, []byte("here"))
	if body, err := openRecord([]byte("here"), val); err != nil || string(body) != "body" {
		t.Fatalf("its own key: %q, %v", body, err)
	}
	if body, err := openRecord([]byte("there"), val); !errors.Is(err, errChecksum) {
		t.Errorf("another key: %q, %v, want %v", body, err, errChecksum)
	}
}

// Every commit is synced. Nothing but a power cut would tell.
func TestCommitsAreSynced(t *testing.T) {
	if o := (&Store{}).options(); o.NoSync || o.NoGrowSync {
		t.Errorf("bbolt is told not to sync: %+v", o)
	}
}
