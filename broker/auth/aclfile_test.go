package auth

import (
	"strings"
	"testing"

	"github.com/farhop/farhop/routing/policy"
)

const plantACL = `# for clients without a user name
topic read public/#

user alice
topic readwrite home/#
topic deny home/safe
  topic	write  with spaces in it
topic bare
user bob smith
topic write #
# for all
pattern readwrite dev/%c/#
pattern read users/%u/+
pattern write x/%u-%c/y
topic read last/%c
`

func TestACLFile(t *testing.T) {
	f := newFixture(t)
	a := f.auth(Config{Anonymous: true, ACL: f.file("acl", strings.ReplaceAll(plantACL, "\n", "\r\n"))})
	if a.Rules.Len() != 10 {
		t.Errorf("%d rules", a.Rules.Len())
	}
	for _, c := range []struct {
		user, do, topic string
		want            bool
	}{
		{"", "sub", "public/#", true},
		{"", "pub", "public/x", false},
		{"alice", "sub", "public/x", false},
		{"alice", "pub", "home/x", true},
		{"alice", "sub", "home/x", true},
		{"alice", "sub", "home/#", false}, // matches home/safe too
		{"alice", "pub", "home/safe", false},
		{"bob smith", "pub", "home/safe", true},
		{"bob smith", "sub", "home/safe", false},
		{"alice", "pub", "with spaces in it", true},
		{"alice", "pub", "bare", true},
		{"alice", "sub", "bare", true},
		{"", "pub", "dev/c1/x", true},
		{"", "sub", "dev/c1/#", true},
		{"", "pub", "dev/c2/x", false},
		{"alice", "sub", "users/alice/+", true},
		{"alice", "sub", "users/+/x", false},
		{"", "sub", "users//x", false},
		{"alice", "pub", "x/alice-c1/y", true},
		{"bob smith", "sub", "last/%c", true}, // no variable in a topic line
		{"bob smith", "sub", "last/c1", false},
	} {
		id := &Identity{Client: "c1", User: c.user}
		if got := a.Rules.Allow(id, c.topic, c.do == "pub"); got != c.want {
			t.Errorf("%q %s %s: %v (%s)", c.user, c.do, c.topic, got, a.Rules.Explain(id, c.topic, c.do == "pub"))
		}
	}
	id := &Identity{Client: "c1", User: "alice"}
	for topic, want := range map[string]string{
		"home/safe": "denied by " + f.dir + "/acl:6",
		"home/x":    "allowed by " + f.dir + "/acl:5",
		"none":      "refused: no rule allows it",
	} {
		if got := a.Rules.Explain(id, topic, true); got != want {
			t.Errorf("%s: %s, want %s", topic, got, want)
		}
	}
	if got := a.Rules.Explain(id, "home/#", false); got != "allowed by "+f.dir+"/acl:5, but it matches topics that are denied" {
		t.Error(got)
	}
}

func TestACLFileFaults(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"word", "\nallow a", `acl:2: starts with "allow"; want user NAME, topic [read|write|readwrite|deny] FILTER, or pattern likewise`},
		{"no filter", "topic", "acl:1: has no filter; want topic [read|write|readwrite|deny] FILTER"},
		{"access only", "pattern read", "acl:1: has no filter; want pattern"},
		{"access", "# x\n\ntopic Read a", `acl:3: unknown access "Read"; want read, write, readwrite or deny`},
		{"filter", "topic read a#", `acl:1: filter "a#": invalid topic syntax: a wildcard must be alone in its level, not in "a#"`},
		{"wildcard beside", "pattern read +%c", "acl:1: filter"},
		{"variable", "topic read ${nobody}", "unknown variable ${nobody}"},
		{"no user", "user", "acl:1: want user NAME"},
		{"all users", "user *", "acl:1: want user NAME, one name without '*'; use pattern lines"},
		{"shared", "topic read $share/g/a", "acl:1: filter"},
		{"bytes", "topic read a\xff", "not UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			_, err := New(Config{ACL: f.file("acl", c.text)}, Deps{})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "acl: "+f.dir) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// TestEmptyACLFile must not allow everything.
func TestEmptyACLFile(t *testing.T) {
	f := newFixture(t)
	a := f.auth(Config{ACL: f.file("acl", "# nothing yet\n")})
	for _, topic := range []string{"a", "$SYS/x"} {
		if a.Rules.Allow(&Identity{}, topic, true) || a.Rules.Allow(&Identity{}, topic, false) {
			t.Errorf("%s is allowed", topic)
		}
	}
}

// FuzzACLFile holds that what is accepted compiles, that every rule has a line
// of its own, and that a fault names its line.
func FuzzACLFile(f *testing.F) {
	f.Add([]byte(plantACL))
	f.Add([]byte("user a\ntopic deny ${attr.x}/#\npattern %u/%c"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, err := parseACL("acl", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "acl:") {
				t.Errorf("no line: %v", err)
			}
			return
		}
		seen := map[string]bool{}
		for _, r := range rules {
			if seen[r.Name] || len(r.From) != 1 || strings.Contains(r.From[0], "*") && r.From[0] != "*" {
				t.Errorf("rule %+v", r)
			}
			seen[r.Name] = true
		}
		if _, err := policy.NewAccess(rules); err != nil {
			t.Error(err)
		}
	})
}
