package bpa

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

var (
	self    = addr.IPN(10, 0)
	created = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// sample is a bundle without fault, made of parts that a test can change.
type sample struct {
	primary bundle.Primary
	blocks  []bundle.Block // but for the payload; those without a number are numbered
	payload string
	plain   bool // the payload block has no CRC
}

func good() sample {
	return sample{
		primary: bundle.Primary{
			CRCType: bundle.CRC32C, Dest: addr.IPN(3, 1), Source: addr.IPN(2, 1), ReportTo: addr.IPN(2, 0),
			Created: bundle.Timestamp{Time: bundle.DTNTime(created.UnixMilli()), Seq: 7}, Lifetime: 3_600_000,
		},
		payload: "0123456789",
	}
}

// encode writes s as it is, faults and all.
func (s sample) encode() []byte {
	dst := bundle.AppendPrimaryAs(cbor.AppendArrayStart(nil), &s.primary)
	for i, b := range s.blocks {
		if b.Number == 0 {
			b.Number = uint64(i + 2)
		}
		dst = bundle.AppendBlockAs(dst, b)
	}
	p := bundle.Block{Type: bundle.TypePayload, Number: 1, CRCType: s.primary.CRCType, Data: []byte(s.payload)}
	if s.plain {
		p.CRCType = bundle.CRCNone
	}
	return cbor.AppendBreak(bundle.AppendBlockAs(dst, p))
}

func (s sample) view(t testing.TB) *bundle.View {
	t.Helper()
	v, err := bundle.Parse(s.encode())
	if err != nil {
		t.Fatal(err)
	}
	return &v
}

func ageBlock(ms uint64) bundle.Block {
	return bundle.Block{Type: bundle.TypeAge, Data: cbor.AppendUint(nil, ms), CRCType: bundle.CRC16}
}

func hopBlock(limit, count uint64) bundle.Block {
	return bundle.Block{Type: bundle.TypeHopCount, Data: cbor.AppendUint(cbor.AppendUint(cbor.AppendArray(nil, 2), limit), count)}
}

func prevBlock(e addr.EID) bundle.Block {
	return bundle.Block{Type: bundle.TypePrevNode, Data: bundle.AppendEID(nil, e)}
}

// securityBlock is about the blocks with the numbers (RFC 9172, section 3.6).
func securityBlock(typ uint64, numbers ...uint64) bundle.Block {
	d := cbor.AppendArray(nil, len(numbers))
	for _, n := range numbers {
		d = cbor.AppendUint(d, n)
	}
	d = bundle.AppendEID(cbor.AppendUint(cbor.AppendUint(d, 1), 0), addr.IPN(2, 1))
	return bundle.Block{Type: typ, Data: cbor.AppendArray(d, 0)}
}

// policyCase changes a good bundle and says what is wrong then.
type policyCase struct {
	name   string
	change func(*sample)
	want   Faults
}

func TestPolicy(t *testing.T) {
	p := Policy{MaxBlocks: 10, MaxPayload: 1000}
	for _, tt := range slices.Concat(blockCases(), nameCases(), sizeCases()) {
		s := good()
		tt.change(&s)
		got := p.Check(s.view(t), created.Add(time.Minute))
		if got.Found != tt.want || got.Refused != tt.want || got.OK() != (tt.want == 0) {
			t.Errorf("%s: %s refused for %s, want %s", tt.name, got.Found, got.Refused, tt.want)
		}
	}
}

// blockCases are about what the blocks say.
func blockCases() []policyCase {
	return []policyCase{
		{"good", func(*sample) {}, 0},
		{"CRC16", func(s *sample) { s.primary.CRCType = bundle.CRC16 }, 0},
		{"no CRC", func(s *sample) { s.primary.CRCType = bundle.CRCNone }, NoPrimaryCRC},
		{"no CRC, but signed", func(s *sample) {
			s.primary.CRCType, s.blocks = bundle.CRCNone, []bundle.Block{securityBlock(bundle.TypeIntegrity, 1, 0)}
		}, 0},
		{"no CRC, another block signed", func(s *sample) {
			s.primary.CRCType, s.blocks = bundle.CRCNone, []bundle.Block{securityBlock(bundle.TypeIntegrity, 1)}
		}, NoPrimaryCRC},
		{"no CRC, signature encrypted", func(s *sample) {
			s.primary.CRCType = bundle.CRCNone
			s.blocks = []bundle.Block{securityBlock(bundle.TypeIntegrity, 0, 1), securityBlock(bundle.TypeConfidentiality, 2, 1)}
		}, NoPrimaryCRC},
		{"no clock, no age", func(s *sample) { s.primary.Created.Time = 0 }, Clockless},
		{"no clock", func(s *sample) { s.primary.Created.Time, s.blocks = 0, []bundle.Block{ageBlock(5)} }, 0},
		{"no clock, expired", func(s *sample) { s.primary.Created.Time, s.blocks = 0, []bundle.Block{ageBlock(3_600_001)} }, Expired},
		{"at the end of its life", func(s *sample) { s.primary.Created.Time, s.blocks = 0, []bundle.Block{ageBlock(3_600_000)} }, 0},
		{"expired by the clock", func(s *sample) { s.primary.Lifetime = 59_999 }, Expired},
		{"not yet made", func(s *sample) { s.primary.Created.Time += 86_400_000 }, 0},
		{"zero lifetime", func(s *sample) { s.primary.Lifetime = 0 }, ZeroLifetime},
		{"endless lifetime", func(s *sample) { s.primary.Lifetime = math.MaxUint64 }, 0},
		{"two ages", func(s *sample) { s.blocks = []bundle.Block{ageBlock(1), ageBlock(1)} }, RepeatedAge},
		{"two of each", func(s *sample) {
			s.blocks = []bundle.Block{prevBlock(self), hopBlock(3, 1), ageBlock(1), ageBlock(1), hopBlock(3, 1), prevBlock(self)}
		}, RepeatedPrev | RepeatedAge | RepeatedHops},
		{"the last hop", func(s *sample) { s.blocks = []bundle.Block{hopBlock(3, 3)} }, 0},
		{"a hop too many", func(s *sample) { s.blocks = []bundle.Block{hopBlock(3, 4)} }, HopLimit},
	}
}

// nameCases are about endpoints, and about flags that depend on them.
func nameCases() []policyCase {
	long := addr.IPN(2, math.MaxUint32+1)
	group := addr.RegionEID(addr.MustRegion("earth"), "x")
	return []policyCase{
		{"anonymous", func(s *sample) { s.primary.Source, s.primary.Flags = addr.None, bundle.FlagNoFragment }, 0},
		{"anonymous, may be divided", func(s *sample) { s.primary.Source = addr.None }, AnonymousFlags},
		{"anonymous as ipn, asks for reports", func(s *sample) {
			s.primary.Source, s.primary.Flags = addr.IPN(0, 3), bundle.FlagNoFragment|bundle.FlagReportDelivery
		}, AnonymousFlags},
		{"anonymous, a block asks for reports", func(s *sample) {
			s.primary.Source, s.primary.Flags = addr.None, bundle.FlagNoFragment
			s.blocks = []bundle.Block{{Type: 200, Flags: bundle.BlockReport}}
		}, AnonymousFlags},
		{"administrative", func(s *sample) { s.primary.Flags = bundle.FlagAdminRecord }, 0},
		{"administrative, asks for reports", func(s *sample) { s.primary.Flags = bundle.FlagAdminRecord | bundle.FlagReportDeletion }, AdminFlags},
		{"administrative, a block asks", func(s *sample) {
			s.primary.Flags, s.blocks = bundle.FlagAdminRecord, []bundle.Block{{Type: 200, Flags: bundle.BlockReport}}
		}, AdminFlags},
		{"source of many", func(s *sample) { s.primary.Source = group }, SharedSource},
		{"destination of many", func(s *sample) { s.primary.Dest = group }, 0},
		{"previous node of many", func(s *sample) { s.blocks = []bundle.Block{prevBlock(group)} }, SharedPrev},
		{"no previous node", func(s *sample) { s.blocks = []bundle.Block{prevBlock(addr.None)} }, SharedPrev},
		{"to nobody", func(s *sample) { s.primary.Dest = addr.IPN(0, 1) }, NullDestination},
		{"to nobody, reports", func(s *sample) { s.primary.ReportTo = addr.IPN(0, 1) }, 0},
		{"from this node", func(s *sample) { s.primary.Source = addr.IPN(math.MaxUint32, 1) }, LocalNode},
		{"to this node", func(s *sample) { s.primary.Dest = addr.IPN(math.MaxUint32, 1) }, LocalNode},
		{"huge service", func(s *sample) { s.primary.ReportTo = long }, IPNService},
	}
}

// sizeCases are about fragments, limits, and all at once.
func sizeCases() []policyCase {
	return []policyCase{
		{"fragment", func(s *sample) { s.fragment(0, 90) }, 0},
		{"last fragment", func(s *sample) { s.fragment(80, 90) }, 0},
		{"fragment beyond the end", func(s *sample) { s.fragment(81, 90) }, BadFragment},
		{"fragment at the end of numbers", func(s *sample) { s.fragment(math.MaxUint64, math.MaxUint64) }, BadFragment},
		{"empty fragment", func(s *sample) { s.fragment(0, 90); s.payload = "" }, BadFragment},
		{"fragment of a whole", func(s *sample) { s.fragment(0, 90); s.primary.Flags |= bundle.FlagNoFragment }, WholeFragment},
		{"fragment of nobody's", func(s *sample) { s.fragment(0, 90); s.primary.Source = addr.None }, WholeFragment | AnonymousFlags},
		{"deadly block", func(s *sample) { s.blocks = []bundle.Block{{Type: 200, Flags: bundle.BlockDeleteBundle}} }, Unsupported},
		{"harmless block", func(s *sample) { s.blocks = []bundle.Block{{Type: 200, Flags: 1 << 40}} }, 0},
		{"unassigned flags", func(s *sample) { s.primary.Flags = 1<<63 | 1<<3 }, 0},
		{"many blocks", func(s *sample) { s.blocks = make([]bundle.Block, 10); fill(s.blocks) }, TooManyBlocks},
		{"large", func(s *sample) { s.payload = strings.Repeat("x", 1001) }, TooLarge},
		{"all at once", func(s *sample) {
			s.primary = bundle.Primary{Dest: addr.None, Source: addr.IPN(2, math.MaxUint32+1), ReportTo: addr.None}
			s.payload = strings.Repeat("x", 1001)
		}, TooLarge | NoPrimaryCRC | Clockless | ZeroLifetime | IPNService | NullDestination},
	}
}

func (s *sample) fragment(offset, total uint64) {
	s.primary.Flags |= bundle.FlagFragment
	s.primary.FragOffset, s.primary.TotalLen = offset, total
}

func fill(b []bundle.Block) {
	for i := range b {
		b[i].Type = 200
	}
}

func TestPolicyKnobs(t *testing.T) {
	v := good().view(t)
	now := created.Add(time.Hour + time.Second)
	if got := (Policy{}).Check(v, now); got.Found != Expired {
		t.Errorf("found %s", got.Found)
	}
	if got := (Policy{ClockError: time.Second}).Check(v, now); !got.OK() {
		t.Errorf("within the clock error: %s", got.Found)
	}
	if got := (Policy{}).Check(v, time.Time{}); !got.OK() {
		t.Errorf("without a clock: %s", got.Found)
	}
	s := good()
	s.primary.CRCType = bundle.CRCNone
	if got := (Policy{Tolerate: NoPrimaryCRC}).Check(s.view(t), now); got.Found != NoPrimaryCRC|Expired || got.Refused != Expired {
		t.Errorf("tolerated: %s refused for %s", got.Found, got.Refused)
	}
	// A creation time in two bytes more than it needs, 0x1b0000... of 4 bytes.
	loose := []byte("\x9f\x88\x07\x00\x00\x82\x02\x82\x01\x02\x82\x02\x82\x02\x01\x82\x01\x00\x82\x19\x00\x05\x01\x18\x64\x85\x01\x01\x00\x00\x41\x31\xff")
	v2, err := bundle.Parse(loose)
	if err != nil {
		t.Fatal(err)
	}
	if got := DefaultPolicy().Check(&v2, time.Time{}); got.Found != LooseEncoding|NoPrimaryCRC || got.Refused != NoPrimaryCRC {
		t.Errorf("loose: %s refused for %s", got.Found, got.Refused)
	}
	for _, bad := range []Policy{{MaxBlocks: 1}, {MaxBlocks: bundle.MaxBlocks + 1}, {MaxPayload: -1}, {ClockError: -1}, {Tolerate: Malformed}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
	if err := DefaultPolicy().Validate(); err != nil {
		t.Error(err)
	}
}

// TestFaults holds the table: every fault has a name of its own, a clause, and
// an end.
func TestFaults(t *testing.T) {
	all := Faults(1<<numFaults - 1).List()
	if len(all) != numFaults {
		t.Fatalf("%d faults listed, want %d", len(all), numFaults)
	}
	names := map[string]bool{}
	for _, f := range all {
		if f.Name == "" || names[f.Name] || f.Clause == "" || f.Text == "" || f.Reason == bundle.OK {
			t.Errorf("%+v", f)
		}
		names[f.Name] = true
	}
	if f := Expired | HopLimit; f.Reason() != bundle.Expired || f.Code() != LifetimeExpired || f.String() != "expired,hop-limit" {
		t.Errorf("%s ends as %s, code %s", f, f.Reason(), f.Code())
	}
	if f := Faults(0); f.Reason() != bundle.OK || f.Code() != NoInformation || f.String() != "" || f.List() != nil {
		t.Errorf("no fault ends as %s, code %s", f.Reason(), f.Code())
	}
	for r := range bundle.Reason(bundle.NumReasons) {
		if CodeOf(r) == NoInformation && r != bundle.OK {
			t.Errorf("reason %s has no code", r)
		}
	}
}
