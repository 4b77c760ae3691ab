package proc

import "testing"

// TestFreeAddr: ports that are drawn one after the other for one run differ, also
// before anybody listens there.
func TestFreeAddr(t *testing.T) {
	given := map[string]bool{}
	for range 64 {
		a, err := FreeAddr()
		if err != nil {
			t.Fatal(err)
		}
		if given[a] {
			t.Fatalf("%s was given twice", a)
		}
		given[a] = true
	}
}
