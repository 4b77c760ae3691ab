package broker

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farhop/farhop/broker/auth"
	"github.com/farhop/farhop/broker/conformance"
	"github.com/farhop/farhop/routing/policy"
)

// prover is an authentication server that speaks the method of
// conformance.AuthCases, and some more for these tests.
type prover struct {
	*httptest.Server
	gate chan struct{} // "slow" waits for its end
}

type proof struct {
	Client, User, Method, State, Exchange string
	Password                              string
	Data                                  []byte
	Round                                 int
	Again                                 bool
}

func newProver(t *testing.T) *prover {
	p := &prover{gate: make(chan struct{})}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *prover) serve(w http.ResponseWriter, r *http.Request) {
	var q proof
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	say := func(result, data, state, more string) {
		text, _ := json.Marshal([]byte(data)) // bytes have no errors
		_, _ = fmt.Fprintf(w, `{"result":%q,"data":%s,"state":%q%s}`, result, text, state, more)
	}
	allow := `,"user":"u","acl":[{"action":"allow","publish":["#"],"subscribe":["#"]}]`
	switch d := string(q.Data); {
	case d == "at-once", d == "me" && q.State == "asked who" && q.Round == 2:
		say("allow", "welcome", "", allow)
	case d == "knock" && q.State == "":
		say("continue", "who", "asked who", "")
	case d == "less":
		say("allow", "", "", `,"user":"u","acl":[{"action":"allow","publish":["#"],"subscribe":["a/#"]}]`)
	case d == "other":
		say("allow", "", "", `,"user":"v"`)
	case d == "not me":
		say("ignore", "", "", "")
	case d == "large":
		say("continue", strings.Repeat("x", 1000), "", "")
	case d == "":
		say("continue", "go on", fmt.Sprint(q.Round), "")
	case d == "slow":
		<-p.gate
		say("allow", "", "", allow)
	case d == "broken":
		_, _ = io.WriteString(w, "{}")
	default:
		say("deny", "", "", "")
	}
}

const conformanceMethod = "farhop-conformance"

// proving is a broker that asks a prover about its method.
func proving(t *testing.T, change func(*Config)) (*world, *prover) {
	t.Helper()
	p := newProver(t)
	users := filepath.Join(t.TempDir(), "users")
	const cheap = "$2a$04$jRzUrL3nk6lxtOU.XifQvO4G4w5xEihDFimcIMZjLwJamI4clq.CC" // plain
	if err := os.WriteFile(users, []byte("conformance:"+cheap+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := auth.New(auth.Config{
		Users: users, HTTP: auth.HTTP{URL: p.URL, Methods: []string{conformanceMethod}, Cache: auth.Duration(time.Hour)},
		Access: []auth.Rule{{Action: policy.Allow, From: []string{"user:conformance"}, MQTT: auth.RuleMQTT{Publish: []string{"#"}, Subscribe: []string{"#"}}}},
	}, auth.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, func(c *Config) {
		c.Auth, c.Enhanced, c.Rules = a.Chain, a.Enhanced, a.Rules
		if change != nil {
			change(c)
		}
	})
	return w, p
}

func TestEnhancedConformance(t *testing.T) {
	w, _ := proving(t, nil)
	cases, err := conformance.AuthCases()
	if err != nil || len(cases) < 10 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	r := conformance.Config{}.RunAll(t.Context(), w.b.Addr().String(), cases)
	if n := r.Count(0, conformance.Passed); n != len(cases) {
		t.Errorf("%d of %d cases passed:\n%s", n, len(cases), r.Faults(conformance.Failed, conformance.Lax, conformance.Skipped))
	}
}

// prove sends a CONNECT with data of the method.
func (w *world) prove(id, data string, change func(*packets.Packet)) *client {
	w.t.Helper()
	c := w.raw()
	c.version = 5
	pk := hello(change)
	pk.Connect.ClientIdentifier = id
	pk.Properties.AuthenticationMethod, pk.Properties.AuthenticationData = conformanceMethod, []byte(data)
	c.send(pk)
	return c
}

func authPacket(code byte, data string) []byte {
	return appendAuth(nil, code, conformanceMethod, []byte(data))
}

func (c *client) sendRaw(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// What the server answers, and what breaks the limits of an exchange.
func TestEnhancedRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, data string
		code       byte
		then       func(c *client)
	}{
		{"denied", "nonsense", codeNotAuthorized, nil},
		{"not for this client", "not me", codeBadAuthMethod, nil},
		{"no answer", "broken", codeUnavailable, nil},
		{"rounds without end", "", codeNotAuthorized, func(c *client) {
			for range auth.MaxRounds {
				c.next(packets.Auth)
				c.sendRaw(authPacket(codeContinue, ""))
			}
		}},
		{"bytes without end", "knock", codeNotAuthorized, func(c *client) {
			c.next(packets.Auth)
			c.sendRaw(authPacket(codeContinue, strings.Repeat("x", auth.MaxProof-4)))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, _ := proving(t, nil)
			c := w.prove("c", tt.data, nil)
			if tt.then != nil {
				tt.then(c)
			}
			if last := c.ends(); last.FixedHeader.Type != packets.Connack || last.ReasonCode != tt.code {
				t.Errorf("got %d with 0x%02X, want CONNACK 0x%02X", last.FixedHeader.Type, last.ReasonCode, tt.code)
			}
		})
	}
}

// A client that does not go on, and a server that does not answer, have the
// time of a CONNECT.
func TestEnhancedTakesNoLongerThanAConnect(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"knock", "slow"} {
		t.Run(data, func(t *testing.T) {
			w, p := proving(t, func(c *Config) { c.ConnectTimeout = 50 * time.Millisecond })
			if last := w.prove("c", data, nil).ends(); last.FixedHeader.Type != packets.Connack || last.ReasonCode != codeNotAuthorized {
				t.Errorf("ended with %d 0x%02X", last.FixedHeader.Type, last.ReasonCode)
			}
			close(p.gate)
		})
	}
}

// An AUTH that is larger than what the client takes is not sent.
func TestEnhancedFitsTheClient(t *testing.T) {
	t.Parallel()
	w, _ := proving(t, nil)
	c := w.prove("c", "large", func(pk *packets.Packet) { pk.Properties.MaximumPacketSize = 500 })
	if _, err := c.read(); err == nil {
		t.Error("got a packet")
	}
}

// While the server thinks about one client, others are served, and the time
// for its keep-alive begins with its CONNACK.
func TestEnhancedHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	w, p := proving(t, nil)
	slow := w.prove("slow", "slow", nil)
	for range 20 { // of every loop
		other := w.prove("other", "knock", nil)
		other.next(packets.Auth)
		other.sendRaw(authPacket(codeContinue, "me"))
		other.next(packets.Connack)
		other.quiet()
	}
	close(p.gate)
	slow.next(packets.Connack)
	slow.quiet()
}

// After another authentication the new rights hold, also for subscriptions
// that are there; another user does not get the session.
func TestReauthentication(t *testing.T) {
	t.Parallel()
	w, _ := proving(t, nil)
	c := w.prove("c", "at-once", nil)
	c.next(packets.Connack)
	if codes := c.subscribe(0, "#"); codes[0] != 0 {
		t.Fatalf("SUBACK % x", codes)
	}
	publisher := w.prove("p", "at-once", nil)
	publisher.next(packets.Connack)
	say := func(topics ...string) {
		for _, topic := range topics {
			publisher.send(publish(topic, "x", 0, 0))
		}
		publisher.quiet()
	}
	say("b/1")
	if pk := c.next(packets.Publish); pk.TopicName != "b/1" {
		t.Errorf("got %s", pk.TopicName)
	}
	c.sendRaw(authPacket(codeReauthenticate, "less"))
	if pk := c.next(packets.Auth); pk.ReasonCode != 0 {
		t.Errorf("AUTH 0x%02X", pk.ReasonCode)
	}
	say("b/2", "a/1")
	if pk := c.next(packets.Publish); pk.TopicName != "a/1" {
		t.Errorf("got %s", pk.TopicName)
	}
	if codes := c.subscribe(0, "b/#"); codes[0] != codeNotAuthorized {
		t.Errorf("SUBACK % x", codes)
	}
	c.sendRaw(authPacket(codeReauthenticate, "other"))
	if last := c.ends(); last.FixedHeader.Type != packets.Disconnect || last.ReasonCode != codeNotAuthorized {
		t.Errorf("ended with %d 0x%02X", last.FixedHeader.Type, last.ReasonCode)
	}
}
