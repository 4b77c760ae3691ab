//go:build linux

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/eclipse/paho.golang/paho"
)

const (
	installPaho = "install the Paho client for Python: apt-get install python3-paho-mqtt"
	installJS   = "install MQTT.js, npm install --prefix DIR mqtt@5, and set FARHOP_NPM=DIR"
)

// order is one line that a client is told, and its parameters.
type order struct {
	Do      string `json:"do"`
	Host    string `json:"host,omitempty"`
	Port    int    `json:"port,omitempty"`
	Version byte   `json:"version,omitempty"`
	ID      string `json:"id,omitempty"`
	Clean   bool   `json:"clean"`
	Expiry  uint32 `json:"expiry"`
	Will    string `json:"will,omitempty"` // topic of a will of QoS 1 that says "gone"
	Filter  string `json:"filter,omitempty"`
	QoS     byte   `json:"qos"`

	Topic       string      `json:"topic,omitempty"`
	Payloads    []string    `json:"payloads,omitempty"`
	Retain      bool        `json:"retain,omitempty"`
	Response    string      `json:"response,omitempty"`
	Correlation string      `json:"correlation,omitempty"`
	User        [][2]string `json:"user,omitempty"`
}

// event is one line that a client says: an answer (Done, Error) or a message.
type event struct {
	Done    string `json:"done"`
	Error   string `json:"error"`
	Session bool   `json:"session"`
	Codes   []int  `json:"codes"`
	Code    int    `json:"code"`

	Topic       string      `json:"topic"`
	Payload     string      `json:"payload"`
	QoS         byte        `json:"qos"`
	Retain      bool        `json:"retain"`
	Response    string      `json:"response"`
	Correlation string      `json:"correlation"`
	User        [][2]string `json:"user"`
}

// backend is a library: it takes an order, and its events go to a channel.
type backend interface {
	order(o order) error
	kill() // without DISCONNECT
}

// library makes backends.
type library struct {
	name     string
	versions []byte
	start    func(t *testing.T, say func(event)) backend
}

func libraries() []library {
	return []library{
		{"paho-python", []byte{4, 5}, startPython},
		{"mqttjs", []byte{4, 5}, startJS},
		{"mosquitto", []byte{4, 5}, startMosquitto},
		{"paho-go", []byte{5}, startGo},
	}
}

// agent is one MQTT client of some library, named LIBRARY-VERSION.
type agent struct {
	t       *testing.T
	lib     library
	name    string
	version byte
	host    string
	port    int

	back    backend
	answers chan event
	mu      sync.Mutex
	got     []event
}

// agents makes one client of each library and version. Nothing is connected.
func agents(t *testing.T, d *daemon, versions ...byte) []*agent {
	t.Helper()
	host, port, _ := net.SplitHostPort(d.mqtt)
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	var out []*agent
	for _, lib := range libraries() {
		for _, v := range lib.versions {
			if strings.ContainsRune(string(versions), rune(v)) {
				out = append(out, &agent{t: t, lib: lib, version: v, name: fmt.Sprintf("%s-%d", lib.name, v), host: host, port: n})
			}
		}
	}
	return out
}

// listen returns what takes the events of a new backend.
func (a *agent) listen() func(event) {
	answers := make(chan event, 16)
	a.answers = answers
	return func(e event) {
		if e.Done != "" || e.Error != "" {
			select {
			case answers <- e:
			default: // nobody asks any more
			}
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.got = append(a.got, e)
	}
}

func (a *agent) received() []event {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]event(nil), a.got...)
}

// payloads are those received on a topic, of all topics with "".
func (a *agent) payloads(topic string) []string {
	var out []string
	for _, e := range a.received() {
		if topic == "" || e.Topic == topic {
			out = append(out, e.Payload)
		}
	}
	return out
}

// do gives an order and waits for its answer.
func (a *agent) do(o order) event {
	a.t.Helper()
	if err := a.back.order(o); err != nil {
		a.t.Fatalf("%s: %s: %v", a.name, o.Do, err)
	}
	select {
	case e := <-a.answers:
		if e.Error != "" || e.Done != o.Do {
			a.t.Fatalf("%s: %s answered with %+v", a.name, o.Do, e)
		}
		return e
	case <-waited():
		a.t.Fatalf("%s: no answer to %s in %s", a.name, o.Do, patience)
	}
	return event{}
}

// connect starts the client. A session that is kept lives for an hour.
func (a *agent) connect(clean bool, will string) (session bool) {
	a.t.Helper()
	a.back = a.lib.start(a.t, a.listen())
	o := order{Do: "connect", Host: a.host, Port: a.port, Version: a.version, ID: a.name, Clean: clean, Will: will}
	if !clean {
		o.Expiry = 3600
	}
	e := a.do(o)
	if e.Code != 0 {
		a.t.Fatalf("%s: CONNACK with code %d", a.name, e.Code)
	}
	return e.Session
}

func (a *agent) subscribe(filter string, qos byte) {
	a.t.Helper()
	e := a.do(order{Do: "subscribe", Filter: filter, QoS: qos})
	if len(e.Codes) != 1 || e.Codes[0] != int(qos) {
		a.t.Errorf("%s: SUBACK %v for QoS %d", a.name, e.Codes, qos)
	}
}

func (a *agent) publish(topic string, qos byte, payloads ...string) {
	a.t.Helper()
	a.do(order{Do: "publish", Topic: topic, QoS: qos, Payloads: payloads})
}

// lines is a backend in a process of its own that speaks JSON lines.
type lines struct {
	cmd *exec.Cmd
	in  io.Writer
}

func startLines(t *testing.T, say func(event), program string, args ...string) backend {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			var e event
			if err := json.Unmarshal(s.Bytes(), &e); err != nil {
				e.Error = s.Text()
			}
			say(e)
		}
		say(event{Error: "the program ended"})
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-read
		_ = cmd.Wait()
	})
	return lines{cmd, in}
}

func (l lines) order(o order) error { return json.NewEncoder(l.in).Encode(o) }

func (l lines) kill() { _ = l.cmd.Process.Kill() }

func startPython(t *testing.T, say func(event)) backend {
	t.Helper()
	python := "/usr/bin/python3" // of the system, where its packages are
	if exec.Command(python, "-c", "import paho.mqtt").Run() != nil {
		missing(t, "paho.mqtt of Python", installPaho)
	}
	return startLines(t, say, python, "testdata/clients/python.py")
}

func startJS(t *testing.T, say func(event)) backend {
	t.Helper()
	node, dir := need(t, "node", "install Node.js 18 or later: apt-get install nodejs npm"), os.Getenv("FARHOP_NPM")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin", "tools", "npm")
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "mqtt")); err != nil {
		missing(t, "MQTT.js", installJS)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return startLines(t, say, node, "testdata/clients/mqttjs.js", dir)
}

// goClient is paho.golang, which speaks MQTT 5 alone.
type goClient struct {
	t   *testing.T
	say func(event)
	c   *paho.Client
	net net.Conn
}

func startGo(t *testing.T, say func(event)) backend {
	t.Helper()
	return &goClient{t: t, say: say}
}

func (g *goClient) kill() { g.net.Close() }

func (g *goClient) order(o order) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch o.Do {
	case "connect":
		return g.connect(ctx, o)
	case "subscribe":
		ack, err := g.c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: o.Filter, QoS: o.QoS}}})
		if err == nil {
			g.say(event{Done: o.Do, Codes: []int{int(ack.Reasons[0])}})
		}
		return err
	case "publish":
		props := &paho.PublishProperties{ResponseTopic: o.Response, CorrelationData: []byte(o.Correlation)}
		for _, kv := range o.User {
			props.User.Add(kv[0], kv[1])
		}
		for _, p := range o.Payloads {
			if _, err := g.c.Publish(ctx, &paho.Publish{Topic: o.Topic, QoS: o.QoS, Retain: o.Retain, Payload: []byte(p), Properties: props}); err != nil {
				return err
			}
		}
		g.say(event{Done: o.Do})
	default:
		if err := g.c.Disconnect(&paho.Disconnect{}); err != nil {
			return err
		}
		g.say(event{Done: o.Do})
	}
	return nil
}

func (g *goClient) connect(ctx context.Context, o order) (err error) {
	if g.net, err = new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(o.Host, strconv.Itoa(o.Port))); err != nil {
		return err
	}
	g.t.Cleanup(func() { g.net.Close() })
	g.c = paho.NewClient(paho.ClientConfig{Conn: g.net, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(p paho.PublishReceived) (bool, error) {
			e := event{
				Topic: p.Packet.Topic, Payload: string(p.Packet.Payload), QoS: p.Packet.QoS, Retain: p.Packet.Retain,
				Response: p.Packet.Properties.ResponseTopic, Correlation: string(p.Packet.Properties.CorrelationData),
			}
			for _, kv := range p.Packet.Properties.User {
				e.User = append(e.User, [2]string{kv.Key, kv.Value})
			}
			g.say(e)
			return true, nil
		},
	}})
	cp := &paho.Connect{ClientID: o.ID, CleanStart: o.Clean, KeepAlive: 60, Properties: &paho.ConnectProperties{SessionExpiryInterval: &o.Expiry}}
	if o.Will != "" {
		cp.WillMessage = &paho.WillMessage{Topic: o.Will, Payload: []byte("gone"), QoS: 1}
		cp.WillProperties = &paho.WillProperties{}
	}
	ack, err := g.c.Connect(ctx, cp)
	if err == nil {
		g.say(event{Done: o.Do, Session: ack.SessionPresent, Code: int(ack.ReasonCode)})
	}
	return err
}
