package core_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
)

// What a dialler sends with its first flight is what its link will carry: the
// rest waits for another link to the peer, or goes by another node.
func TestEarlyOfTheClassesOfALink(t *testing.T) {
	e := newEnv()
	e.script(pair)
	e.script(`
		down a b
		publish a plant/1 fire qos=1 class=alarm
		publish a plant/1 log qos=1 class=bulk
		stabilize`)
	a, b := e.node("a"), e.node("b")
	for token, c := range []struct {
		classes bundle.Classes
		want    string
	}{
		{0, "[alarm bulk]"},
		{bundle.Classes(0).With(bundle.Alarm), "[alarm]"},
		{bundle.Classes(0).With(bundle.Bulk), "[bulk]"},
		{bundle.Classes(0).With(bundle.Telemetry), "[]"},
	} {
		a.core.Early(a.now(), uint64(token), core.Link{Node: b.name, Delay: 50 * time.Millisecond, Classes: c.classes}, 1<<20)
		var got []bundle.Class
		eff := a.core.Take()
		if eff == nil {
			t.Fatal("no answer")
		}
		for _, o := range eff.Early {
			for _, tr := range o.Transfers {
				got = append(got, tr.Class)
			}
		}
		if text := fmt.Sprint(got); text != c.want {
			t.Errorf("of a link of classes %b are offered %s, want %s", c.classes, text, c.want)
		}
	}
}
