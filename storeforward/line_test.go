package storeforward

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// lineRig is one queue whose far end refuses what it does not wait for.
type lineRig struct {
	m *Machine
	o *Outlet
	q *Queue
}

// newLineRig has items in the order of their arrival: "a5" is the fifth of
// origin a.
func newLineRig(items []string) *lineRig {
	r := &lineRig{o: NewOutlet(nil)}
	r.m = New(Config{}, func(store.Queue) *Outlet { return r.o })
	name := store.Queue{Kind: store.ToNode, Name: "far", Class: bundle.Telemetry}
	for _, text := range items {
		var seq uint64
		if _, err := fmt.Sscanf(text[1:], "%d", &seq); err != nil {
			panic(err)
		}
		e := store.Entry{Queue: name, DSeq: seq, Bundle: bundle.NewSequence(1, name.Class, seq)}
		r.m.Put(&store.Header{
			Seq: r.m.NextSeq(), Origin: addr.MustNode(text[:1]), Class: name.Class, Expires: 1 << 40, Entries: []store.Entry{e},
		}, nil)
	}
	r.m.Persisted(r.m.Cut().LSN)
	r.q = r.m.Lookup(name)
	return r
}

func itemText(i *Item) string { return fmt.Sprintf("%s%d", i.Header.Origin, i.Entry.DSeq) }

// take offers what the credit allows.
func (r *lineRig) take() (out []*Item) {
	for i, _ := r.m.Next(r.o, bundle.AllClasses); i != nil; i, _ = r.m.Next(r.o, bundle.AllClasses) {
		out = append(out, i)
	}
	return out
}

// answer settles offers: those that ok takes are gone, the others wait again,
// after a rest.
func (r *lineRig) answer(items []*Item, ok func(*Item) bool) (refused int) {
	for _, i := range items {
		if ok(i) {
			r.m.Taken(r.q)
			r.m.Release(i)
			continue
		}
		r.m.Return(i)
		r.m.Refused(i)
		r.m.Rest(r.q)
		refused++
	}
	r.m.Resume(r.q)
	return refused
}

func TestOffersAfterRefusal(t *testing.T) {
	for _, c := range []struct {
		name  string
		items string
		taken string   // by the far end, after the first round
		want  []string // offers, round by round
	}{
		{"what is waited for stands behind", "a5 a6 a7 a3 a4", "a3 a4 a5 a6 a7", []string{"a5 a6 a7 a3 a4", "a3", "a4 a5", "a6 a7"}},
		{"by numbers, with credit", "a5 a6 a3 a4", "", []string{"a5 a6 a3 a4", "a3", "a3"}},
		{"another origin goes first", "a5 b1 a6 b2", "b1 b2", []string{"a5 b1 a6 b2", "a5", "b1", "b2 a5", "a5"}},
		{"each origin in turn", "a5 b3 c2", "", []string{"a5 b3 c2", "a5", "b3", "c2", "a5"}},
		{"no numbers: by arrival", "a0 a0 b0", "", []string{"a0 a0 b0", "a0", "b0", "a0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newLineRig(strings.Fields(c.items))
			for n, want := range c.want {
				offers := r.take()
				var got []string
				for _, i := range offers {
					got = append(got, itemText(i))
				}
				if strings.Join(got, " ") != want {
					t.Errorf("round %d: %v is offered, want %s", n, got, want)
				}
				r.answer(offers, func(i *Item) bool { return slices.Contains(strings.Fields(c.taken), itemText(i)) && n > 0 })
			}
		})
	}
}

// What comes back without a refusal has its place in the line again.
func TestReturnKeepsThePlaceInTheLine(t *testing.T) {
	r := newLineRig(strings.Fields("a5 a6 a3 a4"))
	r.answer(r.take(), func(*Item) bool { return false })
	first, _ := r.m.Next(r.o, bundle.AllClasses)
	r.m.Return(first)
	if i, _ := r.m.Next(r.o, bundle.AllClasses); i != first || itemText(i) != "a3" {
		t.Errorf("after the return of %s comes %s", itemText(first), itemText(i))
	}
}

// TestWhatIsDueIsFound: a far end that takes only what is due next gets all,
// however it is mixed, and with few refusals.
func TestWhatIsDueIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		legs := rapid.IntRange(1, 4).Draw(t, "origins")
		var items []string
		for l := range legs {
			for n := range rapid.IntRange(1, 8).Draw(t, "items") {
				items = append(items, fmt.Sprintf("%c%d", 'a'+l, n+1))
			}
		}
		r := newLineRig(rapid.Permutation(items).Draw(t, "order"))
		due := map[addr.Node]uint64{}
		refused := 0
		for round := 0; r.q.Count > 0; round++ {
			n := r.answer(r.take(), func(i *Item) bool {
				if i.Entry.DSeq != due[i.Header.Origin]+1 {
					return false
				}
				due[i.Header.Origin]++
				return true
			})
			if round > 0 {
				refused += n
			}
			if round > len(items)*(legs+1) {
				t.Fatalf("%d of %d still wait after %d rounds", r.q.Count, len(items), round)
			}
		}
		if refused > 0 {
			t.Errorf("%d were refused although all that is due is here", refused)
		}
	})
}
