package mqtt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// Shape of the load that tsung makes.
const (
	tsungUsers    = 500 // that come one by one, publish and go
	tsungArrivals = 100 // users a second
	tsungEach     = 100 // messages of a user, QoS 1, one after the other
	tsungSeconds  = 60  // in which the users must have come
)

// TsungReport is what Tsung found: medians over the rounds.
type TsungReport struct {
	Machine Machine `json:"machine"`
	Config
	Users      int     `json:"users"`
	Messages   int     `json:"messages"`       // of all users, QoS 1
	CPU        float64 `json:"cpu_us_per_msg"` // broker's user and system time, connections included
	PeerCPU    float64 `json:"peer_cpu_us_per_msg"`
	CPURatio   float64 `json:"cpu_ratio"`      // median within the rounds
	Answer     float64 `json:"answer_ms"`      // mean time until a request was answered
	PeerAnswer float64 `json:"peer_answer_ms"` // the same

	All     []TsungRound `json:"rounds"`
	AllPeer []TsungRound `json:"peer_rounds,omitempty"`
}

// TsungRound is one run of tsung against one broker.
type TsungRound struct {
	Acknowledged int     `json:"acknowledged"` // messages, as tsung counted
	CPU          float64 `json:"cpu_us_per_msg"`
	Answer       float64 `json:"answer_ms"`
}

// Tsung has tsung 1.7, a load generator of others, make the load: users that
// connect, publish a hundred messages with QoS 1 and disconnect. Of c it takes
// Rounds (3) and Size. A node that leaves a message unanswered is
// ErrUnfaithful.
func Tsung(ctx context.Context, c Config, note func(format string, args ...any)) (r TsungReport, err error) {
	program, err := exec.LookPath("tsung")
	if err != nil {
		return r, fmt.Errorf("%w: install it: apt-get install tsung", err)
	}
	c, done, err := c.begin(Config{Rounds: 3})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, done()) }()
	r = TsungReport{Machine: machine(proc.MosquittoVersion(ctx, c.Peer)), Config: c, Users: tsungUsers, Messages: tsungUsers * tsungEach}
	var cpu, answer, peerCPU, peerAnswer, ratios []float64
	for round := range c.Rounds {
		ours, err := c.tsung(ctx, program, node(c.Farhop))
		if err != nil {
			return r, err
		}
		r.All, cpu, answer = append(r.All, ours), append(cpu, ours.CPU), append(answer, ours.Answer)
		note("round %d: farhop %.2f us a message, %d acknowledged", round+1, ours.CPU, ours.Acknowledged)
		if ours.Acknowledged != r.Messages {
			err = fmt.Errorf("%w: %d of %d messages were acknowledged", ErrUnfaithful, ours.Acknowledged, r.Messages)
			return r, err
		}
		if c.Peer == "" {
			continue
		}
		peer, err := c.tsung(ctx, program, mosquitto(c.Peer, fair()...))
		if err != nil {
			return r, err
		}
		r.AllPeer, peerCPU, peerAnswer = append(r.AllPeer, peer), append(peerCPU, peer.CPU), append(peerAnswer, peer.Answer)
		ratios = append(ratios, ratio(ours.CPU, peer.CPU))
		note("round %d: mosquitto %.2f us a message, %d acknowledged", round+1, peer.CPU, peer.Acknowledged)
	}
	r.CPU, r.PeerCPU, r.CPURatio, r.Answer, r.PeerAnswer = median(cpu), median(peerCPU), median(ratios), median(answer), median(peerAnswer)
	return r, nil
}

// tsung makes one run against one broker.
func (c Config) tsung(ctx context.Context, program string, b broker) (r TsungRound, err error) {
	p, err := launch(ctx, b, c.Dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	plan, logs := filepath.Join(p.Dir, "tsung.xml"), filepath.Join(p.Dir, "tsung")
	text, err := c.tsungPlan(p.addr)
	if err != nil {
		return r, err
	}
	if err := os.WriteFile(plan, []byte(text), 0o600); err != nil {
		return r, err
	}
	before, err := proc.CPU(p.PID())
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience+tsungSeconds*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-f", plan, "-l", logs, "start")
	cmd.Env = append(os.Environ(), "HOME="+p.Dir) // it keeps a folder of its own there
	if out, err := cmd.CombinedOutput(); err != nil {
		return r, fmt.Errorf("tsung: %w\n%s", err, out)
	}
	after, err := proc.CPU(p.PID())
	if err != nil {
		return r, fmt.Errorf("%s ended: %w\n%s", b.name, err, p.Tail())
	}
	r.CPU = float64((after - before).Microseconds()) / (tsungUsers * tsungEach)
	r.Acknowledged, r.Answer, err = tsungResult(logs)
	return r, err
}

// tsungResult reads the last totals in tsung's log: PUBACKs, and the mean time
// of a request in milliseconds.
func tsungResult(dir string) (acknowledged int, answer float64, err error) {
	found, err := filepath.Glob(filepath.Join(dir, "*", "tsung.log"))
	if err != nil || len(found) != 1 {
		return 0, 0, fmt.Errorf("%d logs of tsung in %s: %w", len(found), dir, err)
	}
	f, err := os.Open(found[0])
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// stats: NAME IN-THIS-INTERVAL TOTAL, and of times
		// stats: NAME COUNT MEAN DEVIATION MAX MIN TOTAL-MEAN TOTAL-COUNT
		switch w := strings.Fields(lines.Text()); {
		case len(w) == 4 && w[1] == "mqtt_server_pubacked":
			acknowledged, err = strconv.Atoi(w[3])
		case len(w) == 9 && w[1] == "request":
			answer, err = strconv.ParseFloat(w[7], 64)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %q: %w", found[0], lines.Text(), err)
		}
	}
	return acknowledged, answer, lines.Err()
}

func (c Config) tsungPlan(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`<?xml version="1.0"?>
<!DOCTYPE tsung SYSTEM "/usr/share/tsung/tsung-1.0.dtd">
<tsung loglevel="notice" version="1.0">
  <clients><client host="localhost" use_controller_vm="true" maxusers="%d"/></clients>
  <servers><server host="%s" port="%s" type="tcp"/></servers>
  <load><arrivalphase phase="1" duration="%d" unit="second"><users maxnumber="%d" arrivalrate="%d" unit="second"/></arrivalphase></load>
  <options><option name="thinktime" value="0" random="false"/></options>
  <sessions>
    <session name="publisher" probability="100" type="ts_mqtt">
      <request><mqtt type="connect" clean_start="true" keepalive="60"/></request>
      <for var="i" from="1" to="%d"><request><mqtt type="publish" topic="bench/tsung" qos="1">%s</mqtt></request></for>
      <request><mqtt type="disconnect"/></request>
    </session>
  </sessions>
</tsung>
`, 2*tsungUsers, host, port, tsungSeconds, tsungUsers, tsungArrivals, tsungEach, strings.Repeat("x", c.Size)), nil
}
