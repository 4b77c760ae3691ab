//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mosquittoTools is a client made of mosquitto_sub and mosquitto_pub, which are
// two connections: it connects with the subscription.
type mosquittoTools struct {
	t   *testing.T
	say func(event)
	o   order // of connect
	sub *exec.Cmd
}

func startMosquitto(t *testing.T, say func(event)) backend {
	t.Helper()
	need(t, "mosquitto_sub", installMosquitto)
	need(t, "mosquitto_pub", installMosquitto)
	return &mosquittoTools{t: t, say: say}
}

func (m *mosquittoTools) kill() { _ = m.sub.Process.Kill() }

func (m *mosquittoTools) order(o order) error {
	switch o.Do {
	case "connect":
		m.o = o
		if o.Clean {
			m.say(event{Done: o.Do})
			return nil
		}
		// A session is only seen with a subscription; the same again is harmless.
		return m.subscribe(order{Do: o.Do, Filter: "only/" + o.ID, QoS: 2})
	case "subscribe":
		if m.sub != nil {
			m.kill() // its session goes on
		}
		return m.subscribe(o)
	case "publish":
		return m.publish(o)
	default:
		m.say(event{Done: o.Do})
		return nil
	}
}

func (m *mosquittoTools) server() []string {
	return []string{"-h", m.o.Host, "-p", fmt.Sprint(m.o.Port), "-V", map[byte]string{4: "mqttv311", 5: "mqttv5"}[m.o.Version]}
}

var subackLine = regexp.MustCompile(`^Subscribed \(mid: \d+\): (\d+)`)

// subscribe starts mosquitto_sub. It answers with the SUBACK, and tells nobody
// whether there was a session.
func (m *mosquittoTools) subscribe(o order) error {
	args := append(m.server(), "-d", "-i", m.o.ID, "-t", o.Filter, "-q", fmt.Sprint(o.QoS), "-F", "%j")
	if m.o.Will != "" {
		args = append(args, "--will-topic", m.o.Will, "--will-payload", "gone", "--will-qos", "1")
	}
	if !m.o.Clean {
		args = append(args, "-c")
		if m.o.Version == 5 {
			args = append(args, "-x", fmt.Sprint(m.o.Expiry))
		}
	}
	cmd := exec.Command("stdbuf", append([]string{"-oL", "mosquitto_sub"}, args...)...) // lines at once, also in a pipe
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := start(cmd); err != nil {
		return err
	}
	m.sub = cmd
	read := make(chan struct{})
	go func() {
		defer close(read)
		m.read(out, o.Do)
	}()
	m.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-read
		_ = cmd.Wait()
	})
	return nil
}

func (m *mosquittoTools) read(out io.Reader, do string) {
	for s := bufio.NewScanner(out); s.Scan(); {
		if f := subackLine.FindStringSubmatch(s.Text()); f != nil {
			var code int
			_, _ = fmt.Sscan(f[1], &code) // digits
			m.say(event{Done: do, Codes: []int{code}, Session: !m.o.Clean})
			continue
		}
		if !strings.HasPrefix(s.Text(), "{") {
			continue
		}
		var line struct {
			Topic, Payload string
			QoS            byte
			Retain         int
			Properties     struct {
				Response    string            `json:"response-topic"`
				Correlation string            `json:"correlation-data"`
				User        map[string]string `json:"user-properties"` // their order is lost
			}
		}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			m.say(event{Error: fmt.Sprintf("%v: %s", err, s.Text())})
			continue
		}
		e := event{Topic: line.Topic, Payload: line.Payload, QoS: line.QoS, Retain: line.Retain != 0, Response: line.Properties.Response, Correlation: line.Properties.Correlation}
		for _, k := range slices.Sorted(maps.Keys(line.Properties.User)) {
			e.User = append(e.User, [2]string{k, line.Properties.User[k]})
		}
		m.say(e)
	}
}

func (m *mosquittoTools) publish(o order) error {
	args := append(m.server(), "-l", "-t", o.Topic, "-q", fmt.Sprint(o.QoS))
	if o.Retain {
		args = append(args, "-r")
	}
	property := func(name string, value ...string) {
		args = append(append(args, "-D", "publish", name), value...)
	}
	if o.Response != "" {
		property("response-topic", o.Response)
	}
	if o.Correlation != "" {
		property("correlation-data", o.Correlation)
	}
	for _, kv := range o.User {
		property("user-property", kv[0], kv[1])
	}
	cmd := exec.Command("mosquitto_pub", args...)
	cmd.Stdin = strings.NewReader(strings.Join(o.Payloads, "\n") + "\n")
	if text, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(err, errors.New(string(text)))
	}
	m.say(event{Done: o.Do})
	return nil
}
