package bpa

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

// Policy says which bundles that parse are welcome. The zero value tolerates
// nothing; see DefaultPolicy.
type Policy struct {
	MaxBlocks  int           // primary included; 0: what the parser accepts, bundle.MaxBlocks
	MaxPayload int           // bytes; 0: no limit
	ClockError time.Duration // how far clocks may be apart before a bundle is taken for expired
	Tolerate   Faults        // found and told, but no cause to refuse
}

// DefaultPolicy demands what RFC 9171 demands of bundles, but for the shortest
// encoding, which breaks nothing where blocks travel as they came.
func DefaultPolicy() Policy { return Policy{Tolerate: LooseEncoding} }

// Validate reports all faults of the policy itself.
func (p Policy) Validate() error {
	var errs []error
	if p.MaxBlocks < 0 || p.MaxBlocks == 1 || p.MaxBlocks > bundle.MaxBlocks {
		errs = append(errs, fmt.Errorf("max blocks %d: want 0, or 2 to %d", p.MaxBlocks, bundle.MaxBlocks))
	}
	if p.MaxPayload < 0 {
		errs = append(errs, fmt.Errorf("max payload %d: want 0 or more bytes", p.MaxPayload))
	}
	if p.ClockError < 0 {
		errs = append(errs, fmt.Errorf("clock error %s: want 0 or more", p.ClockError))
	}
	if p.Tolerate.Has(Malformed) {
		errs = append(errs, errors.New("tolerate: what does not parse cannot be tolerated"))
	}
	return errors.Join(errs...)
}

// Verdict is what a policy makes of a bundle.
type Verdict struct {
	Found   Faults // all of them
	Refused Faults // those that the policy does not tolerate
}

// OK reports whether the bundle is welcome.
func (v Verdict) OK() bool { return v.Refused == 0 }

// Check finds all faults of a received bundle. now is the time by a clock that
// is known to be right, and zero where there is none: then only the age block
// can tell that a bundle has expired (RFC 9171, section 5.5).
func (p Policy) Check(v *bundle.View, now time.Time) Verdict {
	f := flags(v) | names(v) | blocks(v)
	if !v.Shortest {
		f |= LooseEncoding
	}
	if p.MaxBlocks > 0 && len(v.Blocks)+1 > p.MaxBlocks {
		f |= TooManyBlocks
	}
	if p.MaxPayload > 0 && len(v.Payload.Data) > p.MaxPayload {
		f |= TooLarge
	}
	switch {
	case v.Primary.Lifetime == 0:
		f |= ZeroLifetime
	case p.expired(v, now):
		f |= Expired
	}
	return Verdict{Found: f, Refused: f &^ p.Tolerate}
}

func (p Policy) expired(v *bundle.View, now time.Time) bool {
	life := v.Primary.Lifetime
	if v.HasAge && uint64(v.Age/time.Millisecond) > life {
		return true
	}
	created, dated := v.Primary.Created.UnixMS()
	if now.IsZero() || !dated {
		return false
	}
	age := now.UnixMilli() - created - p.ClockError.Milliseconds()
	return age > 0 && uint64(age) > life
}

const reports = bundle.FlagReportReception | bundle.FlagReportForwarding | bundle.FlagReportDelivery | bundle.FlagReportDeletion

// flags checks what the processing flags of bundle and blocks contradict.
func flags(v *bundle.View) (f Faults) {
	p := &v.Primary
	admin, anonymous := p.Flags&bundle.FlagAdminRecord != 0, bundle.IsNull(p.Source)
	if anonymous && (p.Flags&bundle.FlagNoFragment == 0 || p.Flags&reports != 0) {
		f |= AnonymousFlags
	}
	if admin && p.Flags&reports != 0 {
		f |= AdminFlags
	}
	if admin || anonymous {
		for i := range v.Blocks {
			if v.Blocks[i].Flags&bundle.BlockReport != 0 && admin {
				f |= AdminFlags
			} else if v.Blocks[i].Flags&bundle.BlockReport != 0 {
				f |= AnonymousFlags
			}
		}
	}
	if p.Flags&bundle.FlagFragment == 0 {
		return f
	}
	if p.Flags&bundle.FlagNoFragment != 0 || anonymous {
		f |= WholeFragment
	}
	n := uint64(len(v.Payload.Data))
	if n == 0 || p.FragOffset > p.TotalLen || n > p.TotalLen-p.FragOffset {
		f |= BadFragment
	}
	return f
}

// names checks the endpoints.
func names(v *bundle.View) (f Faults) {
	p := &v.Primary
	if bundle.IsNull(p.Dest) {
		f |= NullDestination
	}
	if !bundle.IsNull(p.Source) && !bundle.IsSingleton(p.Source) {
		f |= SharedSource
	}
	if !v.Prev.IsZero() && !bundle.IsSingleton(v.Prev) {
		f |= SharedPrev
	}
	if bundle.IsLocalNode(p.Source) || bundle.IsLocalNode(p.Dest) {
		f |= LocalNode
	}
	if hugeService(p.Dest) || hugeService(p.Source) || hugeService(p.ReportTo) || hugeService(v.Prev) {
		f |= IPNService
	}
	return f
}

func hugeService(e addr.EID) bool {
	_, svc := e.Numbers()
	return svc > math.MaxUint32
}

// blocks checks which blocks there are and what they say.
func blocks(v *bundle.View) (f Faults) {
	if v.Primary.CRCType == bundle.CRCNone && !signed(v) {
		f |= NoPrimaryCRC
	}
	if v.Primary.Created.Time == 0 && !v.HasAge {
		f |= Clockless
	}
	for _, r := range [...]struct {
		is bundle.Repeats
		f  Faults
	}{{bundle.RepeatsPrevNode, RepeatedPrev}, {bundle.RepeatsAge, RepeatedAge}, {bundle.RepeatsHopCount, RepeatedHops}} {
		if v.Repeats&r.is != 0 {
			f |= r.f
		}
	}
	if v.HopCount > v.HopLimit { // both 0 without the block
		f |= HopLimit
	}
	if _, deadly := v.Unprocessable(); deadly {
		f |= Unsupported
	}
	return f
}

// signed reports whether an integrity block targets the primary block. One
// that is encrypted cannot be seen to, and does not count.
func signed(v *bundle.View) bool {
	for i := range v.Blocks {
		b := &v.Blocks[i]
		if b.Type == bundle.TypeIntegrity && targets(b, 0) && !encrypted(v, b.Number) {
			return true
		}
	}
	return false
}

func encrypted(v *bundle.View, number uint64) bool {
	return slices.ContainsFunc(v.Blocks, func(b bundle.Block) bool {
		return b.Type == bundle.TypeConfidentiality && targets(&b, number)
	})
}

// targets reports whether a security block is about the block with the number:
// its data begin with an array of numbers (RFC 9172, section 3.6).
func targets(b *bundle.Block, number uint64) bool {
	r := cbor.NewReader(b.Data)
	for n := r.Array(); n != 0 && r.Err() == nil && !r.Break(); n-- {
		if r.Uint() == number && r.Err() == nil {
			return true
		}
	}
	return false
}
