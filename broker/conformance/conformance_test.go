package conformance

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// TestServer runs all cases against the server that FARHOP_CONFORMANCE names.
// Against our own they run in node/e2e, TestConformance.
func TestServer(t *testing.T) {
	addr := os.Getenv("FARHOP_CONFORMANCE")
	if addr == "" {
		t.Skip("no foreign server named: set FARHOP_CONFORMANCE=HOST:PORT to judge one (our own is judged by TestConformance in node/e2e)")
	}
	cases, err := Cases()
	if err == nil && os.Getenv("FARHOP_CONFORMANCE_AUTH") != "" {
		cases, err = AuthCases()
	}
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	r := Config{}.RunAll(t.Context(), addr, cases)
	t.Logf("%d cases in %v\n%s\n%s\n%s", len(cases), time.Since(start).Round(time.Millisecond), r.Clauses(), r.Faults(Failed, Lax, Skipped), r.Summary())
	if n := r.Count(0, Failed); n > 0 {
		t.Errorf("%d cases failed", n)
	}
}

// TestMosquitto holds the cases against a broker of others. What that one
// fails is listed with its reason, so that a case which is wrong shows here.
func TestMosquitto(t *testing.T) {
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		if program = "/usr/sbin/mosquitto"; !isFile(program) {
			if os.Getenv("FARHOP_E2E") == "require" {
				t.Fatal("mosquitto is not installed: nobody else judges the cases")
			}
			t.Skip("nobody else judges the cases: install mosquitto (Debian: apt-get install mosquitto)")
		}
	}
	known := knownFaults(t)
	cases, err := Cases()
	if err != nil {
		t.Fatal(err)
	}
	r := Config{}.RunAll(t.Context(), mosquitto(t, program), cases)
	t.Log("\n" + r.Summary())
	for _, one := range r {
		if one.Outcome == Failed && !slices.Contains(known, one.Case.Name) {
			t.Errorf("%s failed at %q: %s", one.Case.Name, one.Step, one.What)
		}
	}
	if n := r.Count(0, Passed); n < 800 {
		t.Errorf("only %d cases passed", n)
	}
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// knownFaults reads the names of the cases that Mosquitto fails.
func knownFaults(t *testing.T) []string {
	t.Helper()
	src, err := os.ReadFile(filepath.Join("testdata", "mosquitto.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(src)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

// mosquitto starts a broker with raised limits and ends it with the test.
func mosquitto(t *testing.T, program string) string {
	t.Helper()
	addr, err := proc.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := "listener " + port + " 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 100\nmax_queued_messages 0\nmax_packet_size 300000\nset_tcp_nodelay true\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return addr
		}
		if time.Now().After(until) {
			t.Fatalf("mosquitto does not listen: %v", err)
		}
	}
}

func load(t *testing.T) []Case {
	t.Helper()
	cases, err := Cases()
	if err != nil {
		t.Fatal(err)
	}
	more, err := AuthCases()
	if err != nil {
		t.Fatal(err)
	}
	return append(cases, more...)
}

// TestStatements wants every statement to have a case or a reason, not both,
// and every clause of a case to be a statement.
func TestStatements(t *testing.T) {
	statements, err := Statements()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, s := range statements {
		if _, twice := all[s.Clause]; twice {
			t.Errorf("%s is listed twice", s.Clause)
		}
		all[s.Clause] = s.Why
	}
	if len(all) < 390 {
		t.Errorf("%d statements, want 141 and 251", len(all))
	}
	shown := map[string]bool{}
	for _, c := range load(t) {
		for _, clause := range c.Clauses {
			shown[clause] = true
			if _, ok := all[clause]; !ok {
				t.Errorf("%s: there is no statement %s", c.Name, clause)
			}
		}
	}
	for clause, why := range all {
		if shown[clause] == (why != "") {
			t.Errorf("%s: a case shows it: %v, and a reason why none does: %q", clause, shown[clause], why)
		}
	}
}

// TestDocument holds the table of docs/conformance.md against the cases. Run
// with FARHOP_CONFORMANCE_WRITE=1 to write it anew.
func TestDocument(t *testing.T) {
	const name, begin, end = "../../docs/conformance.md", "<!-- table -->\n", "<!-- end of table -->\n"
	src, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	statements, err := Statements()
	if err != nil {
		t.Fatal(err)
	}
	want := Coverage(statements, load(t))
	before, rest, ok1 := strings.Cut(string(src), begin)
	have, after, ok2 := strings.Cut(rest, end)
	switch {
	case !ok1 || !ok2:
		t.Fatalf("%s has lost the marks %q and %q", name, begin, end)
	case have == want:
	case os.Getenv("FARHOP_CONFORMANCE_WRITE") != "":
		if err := os.WriteFile(name, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the table of %s is not that of the cases: run with FARHOP_CONFORMANCE_WRITE=1", name)
	}
}

// serve plays a server that writes bytes for each packet that it reads, and
// gives its address. An empty answer closes the connection.
func serve(t *testing.T, answers ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			for _, a := range answers {
				if err := skipPacket(r); err != nil || a == "" {
					break
				}
				b, err := rawBytes(strings.Fields(a))
				if err == nil {
					_, err = c.Write(b)
				}
				if err != nil {
					t.Error(err)
				}
			}
			_ = c.Close() // that is what the case waits for
		}
	}()
	t.Cleanup(func() {
		_ = l.Close() // ends Accept
		<-done
	})
	return l.Addr().String()
}

func skipPacket(r *bufio.Reader) error {
	if _, err := r.ReadByte(); err != nil {
		return err
	}
	n, err := r.ReadByte() // these tests send less than 128 bytes
	if err == nil {
		_, err = r.Discard(int(n))
	}
	return err
}

// TestFindsFaults: a server that breaks a rule fails, and the rule is named.
func TestFindsFaults(t *testing.T) {
	const ok4, ok5 = "20 02 00 00", "20 03 00 00 00"
	for _, tt := range []struct {
		name    string
		version byte
		steps   string
		answers []string
		outcome Outcome
		want    string // within the clauses or the text
	}{
		{"good v4", 4, "a connect/a ping", []string{ok4, "d0 00"}, Passed, ""},
		{"good v5", 5, "a connect/a ping", []string{ok5, "d0 00"}, Passed, ""},
		{"refused", 4, "a connect", []string{"20 02 00 05"}, Failed, "code is 5"},
		{"CONNACK flags", 5, "a connect", []string{"20 03 02 00 00"}, Failed, "MQTT-3.2.2-1"},
		{"present with an error", 5, "a connect", []string{"20 03 01 87 00"}, Failed, "MQTT-3.2.2-6"},
		{"an unknown reason code", 5, "a connect", []string{"20 03 00 77 00"}, Failed, "MQTT-3.2.2-8"},
		{"reserved flags", 5, "a connect", []string{"21 03 00 00 00"}, Failed, "MQTT-2.1.3-1"},
		{"a length too long", 5, "a connect", []string{"20 04 00 00 80 00"}, Failed, "MQTT-1.5.5-1"},
		{"no CONNACK first", 4, "a connect", []string{"d0 00"}, Failed, "MQTT-3.2.0-1"},
		{"DISCONNECT first", 5, "a connect", []string{"e0 00"}, Failed, "MQTT-3.14.0-1"},
		{"AUTH unasked", 5, "a connect", []string{"f0 00"}, Failed, "MQTT-4.12.0-6"},
		{"CONNACK twice", 5, "a connect/a ping", []string{ok5 + " " + ok5}, Failed, "MQTT-3.2.0-2"},
		{"a property in the wrong packet", 5, "a connect", []string{"20 05 00 00 02 01 00"}, Failed, "must not carry"},
		{"a property twice", 5, "a connect", []string{"20 07 00 00 04 24 00 24 00"}, Failed, "twice"},
		{"bytes too many", 4, "a connect", []string{"20 03 00 00 00"}, Failed, "too many"},
		{"cut short", 4, "a connect", []string{"20 01 00"}, Failed, "in the middle"},
		{"identifier 0", 4, "a connect/a recv qos=1", []string{ok4 + " 32 [ 't' 0000 ]"}, Failed, "MQTT-2.3.1-4"},
		{"identifier in use", 5, "a connect/a < PUBLISH/a < PUBLISH", []string{ok5 + " 32 [ 't' 0001 00 ] 32 [ 't' 0001 00 ]"}, Failed, "MQTT-2.2.1-4"},
		{"again on the same connection", 5, "a connect/a < PUBLISH/a < PUBLISH", []string{ok5 + " 32 [ 't' 0001 00 ] 3a [ 't' 0001 00 ]"}, Failed, "MQTT-4.4.0-1"},
		{"too many at once", 5, "a connect receive-maximum=1/a < PUBLISH/a < PUBLISH", []string{ok5 + " 32 [ 't' 0001 00 ] 32 [ 't' 0002 00 ]"}, Failed, "MQTT-3.3.4-9"},
		{"QoS 0 and DUP", 4, "a connect/a recv", []string{ok4 + " 38 [ 't' ]"}, Failed, "MQTT-3.3.1-2"},
		{"wildcard topic", 4, "a connect/a recv", []string{ok4 + " 30 [ 't+' ]"}, Failed, "MQTT-3.3.2-2"},
		{"no UTF-8", 4, "a connect/a recv", []string{ok4 + " 30 [ 0001 ff ]"}, Failed, "MQTT-1.5.3-1"},
		{"too large", 5, "a connect maximum-packet=20/a recv", []string{ok5 + " 30 [ 't' 00 00*30 ]"}, Failed, "MQTT-3.1.2-24"},
		{"an alias unasked", 5, "a connect/a recv", []string{ok5 + " 30 [ 't' [ 23 0001 ] ]"}, Failed, "MQTT-3.1.2-26"},
		{"an alias unknown", 5, "a connect alias-maximum=2/a recv", []string{ok5 + " 30 [ 0000 [ 23 0001 ] ]"}, Failed, "MQTT-3.3.2-7"},
		{"an alias", 5, "a connect alias-maximum=2/a recv topic=t/a recv topic=t", []string{ok5 + " 30 [ 't' [ 23 0001 ] ] 30 [ 0000 [ 23 0001 ] ]"}, Passed, ""},
		{"reason unwanted", 5, "a connect request-problem=0/a pub t qos=1 pid=1", []string{ok5, "40 [ 0001 10 [ 1f 'x' ] ]"}, Failed, "MQTT-3.1.2-29"},
		{"session expiry of a server", 5, "a connect/a > PINGREQ/a close", []string{ok5, "e0 [ 82 [ 11 00000001 ] ]"}, Failed, "MQTT-3.14.2-2"},
		{"after DISCONNECT", 5, "a connect/a > PINGREQ/a close", []string{ok5, "e0 01 82 d0 00"}, Failed, "MQTT-3.14.4-1"},
		{"closed without a word", 5, "a connect/a > PINGREQ/a close 0x82", []string{ok5, ""}, Lax, "without DISCONNECT"},
		{"closed with another code", 5, "a connect/a > PINGREQ/a close 0x82", []string{ok5, "e0 01 81"}, Lax, "0x81 came"},
		{"closed too early", 4, "a connect/a > PINGREQ/a close after=1h", []string{ok4, ""}, Failed, "before 1h"},
		{"a CONNACK where none may be", 4, "a open/a > CONNECT/a refused 2", []string{"20 02 00 01"}, Failed, "want the connection refused"},
		{"refused in silence", 4, "a open/a > CONNECT/a refused 2", []string{""}, Failed, "closed"},
		{"not offered", 5, "a connect -> alias-maximum=?m/need $m>0", []string{ok5}, Skipped, "does not offer"},
		{"not quiet", 4, "a connect/a quiet", []string{ok4 + " 30 [ 't' ]"}, Failed, "want nothing"},
		{"fewer codes", 4, "a connect/a sub a,0 b,1", []string{ok4, "90 03 03e9 00"}, Failed, "codes is 0, want 0,1"},
		{"a filter not barred", 5, "a connect/a > SUBSCRIBE pid=1 filter=a#,0/a barred 0x8f", []string{ok5, "90 04 0001 00 00"}, Failed, "want the filter refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := fileCase{Name: tt.name, Practice: "test", Versions: []byte{tt.version}, Steps: strings.Split(tt.steps, "/")}.expand("x")
			if err != nil {
				t.Fatal(err)
			}
			r := Run(t.Context(), serve(t, tt.answers...), c[0])
			if text := fmt.Sprint(r.Clauses, r.What); r.Outcome != tt.outcome || !strings.Contains(text, tt.want) {
				t.Errorf("%v at %q: %s, want %v, %q", r.Outcome, r.Step, text, tt.outcome, tt.want)
			}
		})
	}
}

// TestSilence: a server that does not answer is not waited for any longer
// than the configuration says, and the context ends a case.
func TestSilence(t *testing.T) {
	c, err := fileCase{Name: "x", Practice: "test", Versions: []byte{4}, Steps: []string{"a connect"}}.expand("x")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if r := (Config{Wait: 50 * time.Millisecond}).Run(t.Context(), l.Addr().String(), c[0]); r.Outcome != Failed || !strings.Contains(r.What, "nothing came") {
		t.Errorf("%v %s", r.Outcome, r.What)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := Run(ctx, l.Addr().String(), c[0]); r.Outcome != Failed {
		t.Errorf("%v after the context ended", r.Outcome)
	}
	if err := (Config{Wait: -1}).Validate(); err == nil {
		t.Error("a negative wait is valid")
	}
}
