package auth

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPasswordFileFaults(t *testing.T) {
	ok := "a:" + cheap(t, "x") + "\n"
	for _, c := range []struct{ name, text, want string }{
		{"no colon", ok + "\n# note\nbob\n", "users:4: want user:hash, for example from: farhop passwd USER"},
		{"no user", ":x", "users:1: want user:hash"},
		{"twice", ok + ok, `users:2: user "a" is here twice`},
		{"plain", ok + "bob:secret", `users:2: password of "bob": invalid password hash: neither bcrypt nor argon2id: make one with: farhop passwd bob`},
		{"greedy", "bob:$argon2id$v=19$m=4194304,t=1,p=1$YWFhYWFhYWE$YWFhYWFhYWFhYWFhYWFhYQ", `users:1: password of "bob": invalid password hash: m=4194304, want 1 to 131072`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			_, err := New(Config{Users: f.file("users", c.text)}, Deps{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
	if _, err := New(Config{Users: t.TempDir()}, Deps{}); err == nil || !strings.Contains(err.Error(), "users: ") || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a folder: %v", err)
	}
}

func TestPasswordFileIsReadAgain(t *testing.T) {
	f := newFixture(t)
	file := f.file("users", "a:"+cheap(t, "old"))
	a := f.auth(Config{Users: file})
	try := func(password string, want error) {
		t.Helper()
		if _, err := a.Chain.Authenticate(t.Context(), user("a", password)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", password, err, want)
		}
	}
	try("old", nil)
	f.file("users", "a:"+cheap(t, "new"))
	try("old", nil) // within the second of the last look
	f.advance(time.Second)
	try("old", ErrRefused) // though it was remembered
	try("new", nil)
	f.total("farhop_mqtt_auth_file_reloads_total{result=ok,use=users} 1")

	f.file("users", "a:"+cheap(t, "newest")+"\nbroken\n")
	for range 4 {
		f.advance(time.Second)
		try("new", nil)
	}
	f.total("farhop_mqtt_auth_file_reloads_total{result=failed,use=users} 1")
	if n := f.logged("users:2: want user:hash"); n != 1 {
		t.Errorf("the fault is logged %d times", n)
	}
	if err := a.Reload(); err == nil || !strings.Contains(err.Error(), "users:2: want user:hash") {
		t.Errorf("Reload: %v", err)
	}
	try("new", nil)

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	f.advance(time.Second)
	try("new", nil)
	f.file("users", "a:"+cheap(t, "newest"))
	if err := a.Reload(); err != nil {
		t.Errorf("Reload: %v", err)
	}
	try("newest", nil)
	f.total("farhop_mqtt_auth_file_reloads_total{result=ok,use=users} 2")
}

// TestSameTimeAndSize changes a file so that nothing but its bytes differ.
func TestSameTimeAndSize(t *testing.T) {
	f := newFixture(t)
	one, two := cheap(t, "one"), cheap(t, "two")
	file := f.file("users", "a:"+one)
	at := f.clock()
	touch := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	touch("a:" + one)
	a := f.auth(Config{Users: file})
	touch("a:" + two)
	f.advance(time.Second)
	if _, err := a.Chain.Authenticate(t.Context(), user("a", "two")); err != nil {
		t.Error(err)
	}
}

func TestRunSeesChanges(t *testing.T) {
	f := newFixture(t)
	f.file("acl", "topic a")
	a := f.auth(Config{ACL: f.dir + "/acl", Anonymous: true})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = a.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	id := &Identity{Client: "c"}
	before := a.Rules.Generation()
	f.file("acl", "topic b")
	for !a.Rules.Allow(id, "b", true) {
		f.advance(time.Second)
		time.Sleep(time.Millisecond)
	}
	if a.Rules.Allow(id, "a", true) || a.Rules.Generation() == before {
		t.Error("the old rules are in force still")
	}
}

// TestRememberedPasswords counts hashes by the turns they take: while both are
// taken, only a remembered password comes in.
func TestRememberedPasswords(t *testing.T) {
	f := newFixture(t)
	file := watch(Deps{Now: f.clock}, mustMetrics(t), "users", f.file("users", "a:"+cheap(t, "x")), maxUsersFile, parsePasswords)
	if err := file.open(); err != nil {
		t.Fatal(err)
	}
	u, err := newUsers(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Authenticate(t.Context(), user("a", "x")); err != nil {
		t.Fatal(err)
	}
	for range hashesAtOnce {
		u.turn <- struct{}{}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := u.Authenticate(gone, user("a", "x")); err != nil {
		t.Errorf("a remembered password: %v", err)
	}
	for _, c := range []Client{user("a", "y"), user("b", "x")} {
		if _, err := u.Authenticate(gone, c); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s %s waits for no turn: %v", c.User, c.Password, err)
		}
	}
	for range hashesAtOnce {
		<-u.turn
	}
	for i := range maxRemembered {
		u.known[[32]byte{1, byte(i), byte(i >> 8)}] = struct{}{}
	}
	u.known[[32]byte{2}] = struct{}{}
	u.key[0]++ // nothing is remembered under another key
	if _, err := u.Authenticate(t.Context(), user("a", "x")); err != nil || len(u.known) != 1 {
		t.Errorf("%v, %d are remembered", err, len(u.known))
	}
}

func mustMetrics(t *testing.T) *metrics {
	t.Helper()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
