package core_test

import (
	"reflect"
	"testing"

	"github.com/farhop/farhop/node/core"
)

// FuzzParseReports: whatever a peer sends, what is read of it can be written
// and read again.
func FuzzParseReports(f *testing.F) {
	all := core.EncodeReports(core.SomeReports())
	for cut := range len(all) {
		f.Add(all[:cut])
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := core.ParseReports(data)
		if err != nil {
			return
		}
		again, err := core.ParseReports(core.EncodeReports(r))
		if len(data) < 16<<10 && (err != nil || !reflect.DeepEqual(again, r)) {
			t.Errorf("%v: %+v, then %+v", err, r, again)
		}
	})
}

// TestReports: every kind comes through, and nothing that is cut short.
func TestReports(t *testing.T) {
	want := core.SomeReports()
	all := core.EncodeReports(want)
	if got, err := core.ParseReports(all); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v: %+v, want %+v", err, got, want)
	}
	for cut := range len(all) {
		if got, err := core.ParseReports(all[:cut]); err == nil && reflect.DeepEqual(got, want) {
			t.Errorf("%d of %d bytes pass for all", cut, len(all))
		}
	}
}
