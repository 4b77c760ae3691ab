package auth

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/farhop/farhop/routing/policy"
)

func allowAll(name string) Rule {
	return Rule{Name: name, Action: policy.Allow, From: []string{"*"}, MQTT: RuleMQTT{Publish: []string{"#"}, Subscribe: []string{"#"}}}
}

func TestNoRules(t *testing.T) {
	a := newFixture(t).auth(Config{})
	id := &Identity{Client: "c"}
	if !a.Rules.Allow(id, "a", true) || !a.Rules.Allow(id, "$share/g/#", false) || !a.Rules.Receive(id, "a") {
		t.Error("without rules something is refused")
	}
	if got := a.Rules.Explain(id, "a", true); got != "allowed: there are no rules" {
		t.Error(got)
	}
	own, err := policy.NewAccess([]policy.AccessRule{{Action: policy.Allow, From: []string{"*"}, Publish: []string{"mine"}}})
	if err != nil {
		t.Fatal(err)
	}
	id = &Identity{Client: "c", Rules: own}
	if !a.Rules.Allow(id, "mine", true) || a.Rules.Allow(id, "a", true) || a.Rules.Allow(id, "a", false) {
		t.Error("the rules of the token do not hold alone")
	}
}

func TestRulesFollowTheFile(t *testing.T) {
	f := newFixture(t)
	f.file("acl", "topic write a")
	a := f.auth(Config{ACL: f.dir + "/acl", Access: []Rule{{Action: policy.Allow, From: []string{"client:c"}, MQTT: RuleMQTT{Publish: []string{"fixed"}}}}})
	id := &Identity{Client: "c"}
	check := func(want string) {
		t.Helper()
		var got []string
		for _, topic := range []string{"a", "b", "fixed"} {
			if a.Rules.Allow(id, topic, true) {
				got = append(got, topic)
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("allowed: %s, want %s", s, want)
		}
	}
	check("a fixed")
	f.file("acl", "topic write b")
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	check("b fixed")
	f.file("acl", "topic wrote a")
	if err := a.Reload(); err == nil || !strings.Contains(err.Error(), "acl:1: unknown access") {
		t.Errorf("Reload: %v", err)
	}
	check("b fixed")
	f.file("acl", "")
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	check("fixed")
}

// TestPartly lets a wide filter in and holds back what is denied.
func TestPartly(t *testing.T) {
	f := newFixture(t)
	a := f.auth(Config{Access: []Rule{allowAll("all")}, ACL: f.file("acl", "pattern deny test/nosubscribe")})
	id := &Identity{Client: "c"}
	if v := a.Rules.Subscribe(id, "test/nosubscribe"); v.Action != policy.Deny || v.Partly {
		t.Errorf("%+v", v)
	}
	if v := a.Rules.Subscribe(id, "$share/g/+/+"); v.Action != policy.Allow || !v.Partly {
		t.Errorf("%+v", v)
	}
	if a.Rules.Receive(id, "test/nosubscribe") || !a.Rules.Receive(id, "test/x") {
		t.Error("Receive does not hold back what is denied, and that alone")
	}
	f.total("farhop_mqtt_auth_access_total{result=subscribe-refused} 1")
}

func TestAccessIsCounted(t *testing.T) {
	f := newFixture(t)
	shadow := allowAll("trial")
	shadow.Action = policy.Shadow
	shadow.MQTT.Publish = []string{"a"}
	a := f.auth(Config{Access: []Rule{shadow, {Action: policy.Allow, From: []string{"*"}, MQTT: RuleMQTT{Publish: []string{"+"}}}}})
	id := &Identity{}
	a.Rules.Allow(id, "a", true)
	a.Rules.Allow(id, "b", true)
	a.Rules.Allow(id, "b/c", true)
	a.Rules.Allow(id, "b", false)
	f.total("farhop_mqtt_auth_access_total{result=publish-refused} 1")
	f.total("farhop_mqtt_auth_access_total{result=subscribe-refused} 1")
	f.total("farhop_mqtt_auth_access_total{result=shadow} 2")
	if got := a.Rules.Explain(id, "a", true); got != "allowed by access rule 2; shadow trial matches" {
		t.Error(got)
	}
}

// TestGrantsAreShared holds what many clients cost: those under the same rules
// share the compiled ones, and what is kept is bounded.
func TestGrantsAreShared(t *testing.T) {
	var acl strings.Builder
	acl.WriteString("pattern write dev/%c\n")
	for i := range 2 * maxGrantSets {
		fmt.Fprintf(&acl, "user u%d\ntopic own/%d\n", i, i)
	}
	f := newFixture(t)
	a := f.auth(Config{ACL: f.file("acl", acl.String())})
	set := a.Rules.current()
	ids := make([]*Identity, 100)
	for i := range ids {
		ids[i] = &Identity{Client: fmt.Sprint(i)}
		if !a.Rules.Allow(ids[i], fmt.Sprintf("dev/%d", i), true) || a.Rules.Allow(ids[i], "dev/x", true) {
			t.Fatalf("client %d", i)
		}
	}
	if len(set.grants) != 1 || ids[0].bound.Load().grants != ids[99].bound.Load().grants {
		t.Errorf("%d sets for 100 clients under one rule", len(set.grants))
	}
	for i := range 2 * maxGrantSets {
		id := &Identity{Client: "c", User: fmt.Sprintf("u%d", i)}
		if !a.Rules.Allow(id, fmt.Sprintf("own/%d", i), true) || a.Rules.Allow(id, "own/x", true) {
			t.Fatalf("user %d", i)
		}
	}
	if len(set.grants) > maxGrantSets {
		t.Errorf("%d sets are kept", len(set.grants))
	}
	if n := testing.AllocsPerRun(100, func() { a.Rules.Allow(ids[7], "dev/7", true) }); n != 0 {
		t.Errorf("Allow allocates %v times", n)
	}
}

// TestRulesConcurrently asks from many goroutines while the file changes.
func TestRulesConcurrently(t *testing.T) {
	f := newFixture(t)
	f.file("acl", "pattern dev/%c/#\ntopic a")
	a := f.auth(Config{ACL: f.dir + "/acl"})
	ids := []*Identity{{Client: "c0"}, {Client: "c1"}}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			id := ids[i%2]
			for range 500 {
				if !a.Rules.Allow(id, "dev/"+id.Client+"/x", true) || a.Rules.Allow(id, "dev/+/x", false) {
					t.Errorf("client %s", id.Client)
					return
				}
			}
		})
	}
	for i := range 20 {
		f.file("acl", fmt.Sprintf("pattern dev/%%c/#\ntopic a%d", i))
		if err := a.Reload(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

func BenchmarkAllow(b *testing.B) {
	rules, err := newRuleset([]policy.AccessRule{
		{Action: policy.Allow, From: []string{"*"}, Publish: []string{"dev/${client.id}/#"}},
		{Action: policy.Deny, From: []string{"*"}, Publish: []string{"dev/+/secret"}},
	})
	if err != nil {
		b.Fatal(err)
	}
	m, err := newMetrics(nil)
	if err != nil {
		b.Fatal(err)
	}
	r, id := &Rules{fixed: rules, metrics: m}, &Identity{Client: "plc-7"}
	b.ReportAllocs()
	for b.Loop() {
		if !r.Allow(id, "dev/plc-7/temp/1", true) {
			b.Fatal("refused")
		}
	}
}
