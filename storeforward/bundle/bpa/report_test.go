package bpa

import (
	"encoding/hex"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// TestReportEncoding pins the bytes of RFC 9171, section 6.1.1.
func TestReportEncoding(t *testing.T) {
	r := Report{Code: LifetimeExpired, Source: addr.IPN(2, 1), Created: bundle.Timestamp{Time: 1000, Seq: 7}}
	r.Is[Deleted] = true
	want := "8201" + "84" + "84" + "81f4" + "81f4" + "81f4" + "81f5" + "01" + "8202820201" + "821903e807"
	if got := hex.EncodeToString(r.Append(nil)); got != want {
		t.Errorf("encoded as %s, want %s", got, want)
	}
	r.At[Deleted], r.Fragment, r.Offset, r.FragBytes = 2000, true, 100, 50
	want = "8201" + "86" + "84" + "81f4" + "81f4" + "81f4" + "82f51907d0" + "01" + "8202820201" + "821903e807" + "1864" + "1832"
	if got := hex.EncodeToString(r.Append(nil)); got != want {
		t.Errorf("encoded as %s, want %s", got, want)
	}
}

func TestParseRecord(t *testing.T) {
	const rest = "01" + "8202820201" + "821903e807"
	for _, tt := range []struct{ name, hex, want string }{
		{"report", "8201" + "84" + "8481f481f581f481f4" + rest, ""},
		{"arrays of indefinite length", "9f01" + "9f" + "9f9ff4ff9ff501ff81f481f4ff" + rest + "0102ff" + "ff", ""},
		{"more statuses", "8201" + "84" + "8581f481f581f481f4f6" + rest, ""},
		{"another type", "82046461626364", ""},
		{"another type, cut", "820464616263", "longer than the data"},
		{"nothing", "", "want an array"},
		{"no array", "01", "want an array"},
		{"three items", "83040404", "array of 2 items"},
		{"three statuses", "8201" + "84" + "8381f481f581f4" + rest, "at least 4"},
		{"status of three items", "8201" + "84" + "8483f40101" + "81f581f481f4" + rest, "array of 1 or 2"},
		{"status as a number", "8201" + "84" + "8481008100" + "81f481f4" + rest, "true or false"},
		{"five items", "8201" + "85" + "8481f481f581f481f4" + rest + "01", "4 or 6"},
		{"bytes behind", "8201" + "84" + "8481f481f581f481f4" + rest + "00", "after the end"},
		{"cut", "8201" + "84" + "8481f481f581f481f4", "found the end"},
	} {
		b, err := hex.DecodeString(tt.hex)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := ParseRecord(b)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v, want %q", tt.name, rec, err, tt.want)
		}
	}
}

func TestEveryReport(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := rapid.Uint64()
		r := Report{
			Code: Code(u.Draw(t, "code")), Source: addr.IPN(u.Draw(t, "node"), u.Draw(t, "service")),
			Created: bundle.Timestamp{Time: u.Draw(t, "time"), Seq: u.Draw(t, "seq")},
		}
		for i := range r.Is {
			if r.Is[i] = rapid.Bool().Draw(t, "is"); r.Is[i] {
				r.At[i] = u.Draw(t, "at")
			}
		}
		if rapid.Bool().Draw(t, "fragment") {
			r.Fragment, r.Offset, r.FragBytes = true, u.Draw(t, "offset"), u.Draw(t, "bytes")
		}
		rec, err := ParseRecord(r.Append(nil))
		if err != nil || !rec.IsReport() || rec.Report != r {
			t.Fatalf("%+v read back as %+v, %v", r, rec, err)
		}
	})
}

func FuzzRecord(f *testing.F) {
	r := Report{Code: 3, Source: addr.IPN(2, 1)}
	f.Add(r.Append(nil))
	r.Is[Received], r.At[Received], r.Fragment = true, 5, true
	f.Add(r.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := ParseRecord(b)
		if err != nil || !rec.IsReport() {
			return
		}
		for i, is := range rec.Report.Is { // a time of what did not happen is not written again
			if !is {
				rec.Report.At[i] = 0
			}
		}
		if again, err := ParseRecord(rec.Report.Append(nil)); err != nil || again.Report != rec.Report {
			t.Fatalf("%+v read back as %+v, %v", rec.Report, again.Report, err)
		}
	})
}

const allReports = reports | bundle.FlagStatusTime

func TestReporterRules(t *testing.T) {
	ask := func(flags uint64, change func(*sample)) *bundle.View {
		s := good()
		s.primary.Flags |= flags
		if change != nil {
			change(&s)
		}
		return s.view(t)
	}
	strange := func(flags uint64) func(*sample) {
		return func(s *sample) { s.blocks = []bundle.Block{{Type: 200, Flags: flags}} }
	}
	tests := []struct {
		name   string
		v      *bundle.View
		s      Status
		code   Code
		made   bool
		barred uint64
	}{
		{"not asked", ask(0, nil), Deleted, LifetimeExpired, false, 0},
		{"asked for another", ask(bundle.FlagReportDelivery, nil), Deleted, LifetimeExpired, false, 0},
		{"received", ask(bundle.FlagReportReception, nil), Received, NoInformation, true, 0},
		{"forwarded", ask(bundle.FlagReportForwarding, nil), Forwarded, NoInformation, true, 0},
		{"delivered", ask(bundle.FlagReportDelivery, nil), Delivered, NoInformation, true, 0},
		{"deleted", ask(bundle.FlagReportDeletion, nil), Deleted, HopLimitExceeded, true, 0},
		{"a report about a report", ask(allReports|bundle.FlagAdminRecord, nil), Deleted, LifetimeExpired, false, 1},
		{"an anonymous bundle", ask(allReports, func(s *sample) { s.primary.Source = addr.None }), Deleted, LifetimeExpired, false, 1},
		{"to nobody", ask(allReports, func(s *sample) { s.primary.ReportTo = addr.IPN(0, 4) }), Deleted, LifetimeExpired, false, 1},
		{"to this node", ask(allReports, func(s *sample) { s.primary.ReportTo = addr.IPN(math.MaxUint32, 4) }), Deleted, LifetimeExpired, false, 1},
		{"a block asks", ask(0, strange(bundle.BlockReport)), Received, BlockUnsupported, true, 0},
		{"no block asks", ask(allReports, strange(0)), Received, BlockUnsupported, false, 0},
		{"no such status", ask(allReports, nil), numStatuses, NoInformation, false, 0},
	}
	for _, tt := range tests {
		r, err := NewReporter(ReporterConfig{PerSecond: 1})
		if err != nil {
			t.Fatal(err)
		}
		rep, made := r.Report(tt.v, tt.s, tt.code, created, true)
		if made != tt.made || r.Stats().Barred != tt.barred {
			t.Errorf("%s: made %v, %+v", tt.name, made, r.Stats())
		}
		if made && (!rep.Is[tt.s] || rep.Code != tt.code || rep.Source != tt.v.Primary.Source || rep.Created != tt.v.Primary.Created) {
			t.Errorf("%s: %+v", tt.name, rep)
		}
		off, _ := NewReporter(ReporterConfig{})
		if _, made := off.Report(tt.v, tt.s, tt.code, created, true); made {
			t.Errorf("%s: made although reports are off", tt.name)
		}
	}
}

func TestReportContent(t *testing.T) {
	r, _ := NewReporter(ReporterConfig{PerSecond: 1, Burst: 9})
	s := good()
	s.primary.Flags = allReports
	s.fragment(100, 500)
	want := Report{Code: 1, Source: addr.IPN(2, 1), Created: s.primary.Created, Fragment: true, Offset: 100, FragBytes: 10}
	want.Is[Deleted], want.At[Deleted] = true, bundle.DTNTime(created.UnixMilli())
	if got, _ := r.Report(s.view(t), Deleted, LifetimeExpired, created, true); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	want.At[Deleted] = 0
	if got, _ := r.Report(s.view(t), Deleted, LifetimeExpired, created, false); got != want {
		t.Errorf("without a clock %+v, want %+v", got, want)
	}
	s.primary.Flags &^= bundle.FlagStatusTime
	if got, _ := r.Report(s.view(t), Deleted, LifetimeExpired, created, true); got != want {
		t.Errorf("times not asked for: %+v, want %+v", got, want)
	}
}

func TestReporterRate(t *testing.T) {
	r, err := NewReporter(ReporterConfig{PerSecond: 2, Burst: 3, Endpoints: 2})
	if err != nil {
		t.Fatal(err)
	}
	to := func(node uint64) *bundle.View {
		s := good()
		s.primary.Flags, s.primary.ReportTo = bundle.FlagReportDeletion, addr.IPN(node, 0)
		return s.view(t)
	}
	now := created
	tries := func(node uint64, n int) (made int) {
		for range n {
			if _, ok := r.Report(to(node), Deleted, LifetimeExpired, now, true); ok {
				made++
			}
		}
		return made
	}
	var got []int
	got = append(got, tries(1, 10), tries(2, 1), tries(3, 1)) // a burst; one; no room for a third endpoint
	now = now.Add(500 * time.Millisecond)
	got = append(got, tries(1, 10), tries(3, 1)) // one again; 2 is whole again and makes room
	now = now.Add(time.Hour)
	got = append(got, tries(1, 10)) // no more than a burst after an hour
	if want := []int{3, 1, 0, 1, 1, 3}; !slices.Equal(got, want) {
		t.Errorf("made %d, want %d", got, want)
	}
	if s := r.Stats(); s.Made != 9 || s.Made+s.Limited != 33 || len(r.full) > 2 {
		t.Errorf("%+v, %d endpoints", s, len(r.full))
	}
	for _, bad := range []ReporterConfig{{PerSecond: -1}, {PerSecond: math.NaN()}, {PerSecond: math.Inf(1)}, {PerSecond: 1e-9}, {Burst: -1}, {Burst: 1 << 30}, {Endpoints: -1}} {
		if _, err := NewReporter(bad); err == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}
