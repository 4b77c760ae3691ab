package broker

import (
	"maps"
	"testing"

	"pgregory.net/rapid"
)

// TestSubset plays random changes on a subset and on a map.
func TestSubset(t *testing.T) {
	filters := rapid.SampledFrom([]string{"a", "b", "c", "a/b", "$share/g/a"})
	rapid.Check(t, func(t *rapid.T) {
		var s subset
		model := map[string]*liveSub{}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				v := &liveSub{opt: Subscription{Filter: filters.Draw(t, "filter")}}
				s.put(v)
				model[v.opt.Filter] = v
			},
			"remove": func(t *rapid.T) {
				f := filters.Draw(t, "filter")
				s.remove(f)
				delete(model, f)
			},
			"": func(t *rapid.T) {
				found := map[string]*liveSub{}
				for v := range s.all() {
					found[v.opt.Filter] = v
				}
				if s.len() != len(model) || !maps.Equal(found, model) || s.len() == 0 && (s.one != nil || s.many != nil) {
					t.Fatalf("got %v, want %v", found, model)
				}
				for f, v := range model {
					if s.get(f) != v {
						t.Fatalf("get(%q) = %v, want %v", f, s.get(f), v)
					}
				}
				if s.get("other") != nil {
					t.Fatal("a filter that was never put is there")
				}
			},
		})
	})
}
