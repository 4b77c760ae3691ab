package journal

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A table says what a map would, and has its keys in order.
func TestKeyTable(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var k keyTable
	want := map[string]int64{}
	at := int64(0)
	for _, phase := range []struct{ steps, keys, deletes int }{
		{3000, 1 << 30, 0}, {6000, 4000, 30}, {3000, 4000, 0}, {20_000, 4000, 90}, {2000, 50, 50},
	} {
		for range phase.steps {
			key := fmt.Sprintf("%x", r.IntN(phase.keys))
			if at++; r.IntN(100) < phase.deletes {
				if keys := slices.Sorted(maps.Keys(want)); r.IntN(2) == 0 && len(keys) > 0 && at%16 == 0 {
					key = keys[r.IntN(len(keys))]
				}
				k.delete(key)
				delete(want, key)
				continue
			}
			v := stateValue{at: at, cost: at % 100, inside: at%3 == 0}
			if v.inside {
				v.value = []byte(key)
			}
			k.put(key, v)
			want[key] = at
		}
		checkKeys(t, &k, want)
	}
	for key := range want {
		k.delete(key)
	}
	if k.count != 0 || len(k.blocks) != 0 || len(k.inside) != 0 {
		t.Errorf("%d keys in %d blocks and %d values are left of none", k.count, len(k.blocks), len(k.inside))
	}
}

func checkKeys(t *testing.T, k *keyTable, want map[string]int64) {
	t.Helper()
	keys := slices.Sorted(maps.Keys(want))
	var got []string
	k.each("", func(e *keyEntry) bool { got = append(got, e.key); return true })
	if !slices.Equal(got, keys) || k.count != len(keys) {
		t.Fatalf("%d keys, counted as %d, want %d", len(got), k.count, len(keys))
	}
	for key, at := range want {
		v, ok := k.get(key)
		if !ok || v.at != at || v.cost != at%100 || v.inside != (at%3 == 0) || v.inside && string(v.value) != key {
			t.Fatalf("key %s: %+v, %t; want place %d", key, v, ok, at)
		}
	}
	for _, from := range []string{"7", "7f", "zz", "0"} {
		got = nil
		k.each(from, func(e *keyEntry) bool { got = append(got, e.key); return len(got) < 20 })
		i, _ := slices.BinarySearchFunc(keys, from, strings.Compare)
		if rest := keys[i:min(i+20, len(keys))]; !slices.Equal(got, rest) {
			t.Fatalf("from %s: %v, want %v", from, got, rest)
		}
		if _, ok := k.get(from + "x"); ok {
			t.Fatalf("a key is there that nobody put")
		}
	}
}

// Keys that come in order fill their blocks.
func TestKeyTableInOrder(t *testing.T) {
	var k keyTable
	for i := range 10 * keyBlock {
		k.put(fmt.Sprintf("%06d", i), stateValue{at: int64(i)})
	}
	if len(k.blocks) != 10 {
		t.Errorf("%d keys take %d blocks", k.count, len(k.blocks))
	}
}
