package core_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
)

// env is a small world for goldens: real cores over stores in memory, frames
// that move when a command says so, and a log of every effect. Time stands
// still but for the command tick.
type env struct {
	now      time.Time
	nodes    []*enode
	links    []*elink
	routes   *policy.Table
	settings core.Settings
	labels   map[bundle.ID]string
	sessions uint64 // link sessions given
	out      strings.Builder
	show     map[string]bool
	cmd      *datadriven.TestData
	overfull int // batches beyond the room of their store
	files    map[string]*efile

	// Told of replies and of deliveries, when set.
	onReply   func(what string, r bundle.Reason)
	onDeliver func(client, label string, d core.Delivery)
	onLive    func(n *enode, l core.Live)
	onStamp   func(n *enode, label string, s *core.Submission)
	onKeep    func(n *enode, k core.Keep)
	onSettle  func(client, label string)
	onWord    func(n *enode, w core.Word)
	onConnack func(n *enode, client string, present bool)
	onOffer   func(n *enode, client string, d core.Delivery)
	onRelease func(n *enode, client string, d core.Delivery)
	onTaken   func(n *enode, client string)
	answers   bool     // to CONNECT are shown
	later     []func() // what hooks put off
}

func newEnv() *env {
	return &env{
		now: epoch, routes: &policy.Table{}, labels: map[bundle.ID]string{},
	}
}

func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		e := newEnv()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "reset" {
				e = newEnv()
				return ""
			}
			return e.run(d)
		})
	})
}

// commands by name; the comment tells the arguments.
var commands = map[string]func(*env){
	"node":        (*env).cmdNode,        // NAME region=R [window=N] [count=N]
	"link":        (*env).cmdLink,        // A B [delay=D] [every=D] [for=D] [window=BYTES] [by=NAME] [cost=N] [classes=C+C]: and up; commands with A B or FROM TO take by=NAME too
	"up":          (*env).cmdUp,          // A B: a new session
	"down":        (*env).cmdDown,        // A B: the session ends, frames are lost
	"cut":         (*env).cmdCut,         // A B: frames wait, nobody is told
	"heal":        (*env).cmdHeal,        // A B
	"lose":        (*env).cmdLose,        // FROM TO: frames under way vanish
	"inject":      (*env).cmdInject,      // FROM TO refuse|ack class=C xid=N [reason=R]: a frame that FROM's core never sent
	"connect":     (*env).cmdConnect,     // NODE CLIENT [clean] [expiry=S] [receive=N] [auto] [will=LABEL topic=T [qos=N] [delay=S] [ttl=D] [retain] [clear] [size=N]]
	"disconnect":  (*env).cmdDisconnect,  // NODE CLIENT [expiry=S] [leaves]: without will
	"elsewhere":   (*env).cmdElsewhere,   // NODE CLIENT
	"subscribe":   (*env).cmdSubscribe,   // NODE CLIENT FILTER [qos=N] [no-local] [id=N]
	"unsubscribe": (*env).cmdUnsubscribe, // NODE CLIENT FILTER
	"publish":     (*env).cmdPublish,     // NODE TOPIC LABEL [qos=N] [ttl=D] [class=C] [retain] [client=C] [packet=N] [key=K] [only=REGION] [to=NODE] [group=FILTER] [receipts=TOPIC] [answer=TOPIC] [answers=NODE] [n=COUNT] [size=N] [clear]
	"send":        (*env).cmdSend,        // NODE TO SERVICE LABEL [ttl=D] [key=K] [keep=D]: a bundle for a service of a node
	"ping":        (*env).cmdPing,        // NODE TO [ttl=D] [n=COUNT] [odd]: questions for its echo, numbered from 1; odd ones are too short
	"settle":      (*env).cmdSettle,      // NODE CLIENT [received|old|dropped] [n=COUNT]: the device answers its oldest deliveries
	"pubrel":      (*env).cmdPubrel,      // NODE CLIENT PACKET
	"deliver":     (*env).cmdDeliver,     // [FROM TO] [n=COUNT]: frames under way arrive
	"sync":        (*env).cmdSync,        // NODE
	"fail":        (*env).cmdFail,        // NODE: its next write fails
	"load":        (*env).cmdLoad,        // NODE: what it asked to read is read
	"stabilize":   (*env).cmdStabilize,   // all of these until nothing is left, in no time
	"tick":        (*env).cmdTick,        // DURATION: the world runs
	"crash":       (*env).cmdCrash,       // NODE [wipe] [skew=D] [kept=N]: and boots on what was synced, and on N batches that were not, or on a new store
	"routes":      (*env).cmdRoutes,      // lines: TOPIC [to=R,R] [unreachable=drop] [class=C] [ttl=D] [displace]
	"settings":    (*env).cmdSettings,    // [order-wait=D] [batch=BYTES] [batch-wait=D] [horizon=D] [max-retained=N] [max-wills=N] [max-wills-bytes=N]
	"quotas":      (*env).cmdQuotas,      // lines: NAME [client=GLOB] [topic=FILTER] [region=R] [class=C] [peer=GLOB] [each=client|peer] [bytes=N] [count=N]
	"usage":       (*env).cmdUsage,       // NODE
	"room":        (*env).cmdRoom,        // NODE [left=BYTES]: its store has so much left, without a number plenty
	"retry":       (*env).cmdRetry,       // NODE
	"purge":       (*env).cmdPurge,       // NODE [session=CLIENT|to=NODE] [class=C] [older=D]
	"open":        (*env).cmdOpen,        // NODE SERVICE CONN [window=N]
	"close":       (*env).cmdClose,       // NODE SERVICE
	"readdress":   (*env).cmdReaddress,   // NODE SERVICE TO [n=COUNT]: its oldest deliveries go to another service
	"unreadable":  (*env).cmdUnreadable,  // NODE LABEL: the payload of its copies cannot be read
	"why":         (*env).cmdWhy,         // NODE LABEL
	"view":        (*env).cmdView,        // NODE
	"watch":       (*env).cmdWatch,       // NODE [off]: what it sees of messages is told
	"sessions":    (*env).cmdSessions,    // NODE [after=CLIENT] [limit=N] [name=TEXT]: as an operator lists them
	"stats":       (*env).cmdStats,       // NODE
	"retained":    (*env).cmdRetained,    // NODE: what its broker holds; with state what is on disk, too
	"old-state":   (*env).cmdOldState,    // NODE TOPIC LABEL: a retained message as nodes without stamps kept it; then crash
	"compare":     (*env).cmdCompare,     // NODE: it takes in the steps of comparisons, and of sessions that move, that came
	"export":      (*env).cmdExport,      // NODE FILE [to=NODE]: what waits there for others goes into a file
	"import":      (*env).cmdImport,      // NODE FILE
	"hand":        (*env).cmdHand,        // FILE [all]: its node gives away what was taken in from it, or all that is in it
	"answers":     (*env).cmdAnswers,     // those to CONNECT are shown from now on
}

// run does one command. show=(...) lists what else is to be seen of write,
// advert, ping, sync and load; quiet hides all.
func (e *env) run(d *datadriven.TestData) string {
	e.cmd = d
	e.out.Reset()
	e.show = map[string]bool{}
	for _, a := range d.CmdArgs {
		if a.Key == "show" {
			for _, v := range a.Vals {
				e.show[v] = true
			}
		}
	}
	f := commands[d.Cmd]
	if f == nil {
		return fmt.Sprintf("no command %q\n", d.Cmd)
	}
	f(e)
	if e.flag("quiet") {
		return ""
	}
	return e.out.String()
}

// do runs one command outside of a golden and returns what it printed.
func (e *env) do(line string, args ...any) string {
	cmd, a, err := datadriven.ParseLine(fmt.Sprintf(line, args...))
	if err != nil {
		panic(err)
	}
	return e.run(&datadriven.TestData{Cmd: cmd, CmdArgs: a})
}

// script runs commands, one a line, and returns what the last one printed.
func (e *env) script(lines string) (out string) {
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line != "" {
			out = e.do("%s", line)
		}
	}
	return out
}

func (e *env) printf(format string, args ...any) { fmt.Fprintf(&e.out, format+"\n", args...) }

// arg returns the n-th argument without a value.
func (e *env) arg(n int) string {
	for _, a := range e.cmd.CmdArgs {
		if len(a.Vals) == 0 {
			if n == 0 {
				return a.Key
			}
			n--
		}
	}
	e.cmd.Fatalf(nil, "argument missing")
	return ""
}

func (e *env) has(n int) bool {
	for _, a := range e.cmd.CmdArgs {
		if len(a.Vals) == 0 {
			n--
		}
	}
	return n < 0
}

func (e *env) flag(name string) bool {
	for _, a := range e.cmd.CmdArgs {
		if a.Key == name && len(a.Vals) == 0 {
			return true
		}
	}
	return false
}

func (e *env) value(key, otherwise string) string {
	for _, a := range e.cmd.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return strings.Join(a.Vals, ",")
		}
	}
	return otherwise
}

func (e *env) number(key string, otherwise int) int {
	n, err := strconv.Atoi(e.value(key, strconv.Itoa(otherwise)))
	if err != nil {
		panic(err)
	}
	return n
}

func (e *env) duration(key string) time.Duration {
	d, err := time.ParseDuration(e.value(key, "0s"))
	if err != nil {
		panic(err)
	}
	return d
}

func (e *env) class() bundle.Class {
	c, err := bundle.ParseClass(e.value("class", "telemetry"))
	if err != nil {
		panic(err)
	}
	return c
}

func (e *env) node(name string) *enode {
	for _, n := range e.nodes {
		if n.name.String() == name {
			return n
		}
	}
	panic("no node " + name)
}

func (e *env) label(id bundle.ID) string {
	if l := e.labels[id]; l != "" {
		return l
	}
	return id.String()
}

func (e *env) cmdRoutes() {
	var routes []policy.Route
	for k, line := range strings.Split(strings.TrimSpace(e.cmd.Input), "\n") {
		_, args, err := datadriven.ParseLine("route " + line)
		if err != nil {
			panic(err)
		}
		r := policy.Route{Name: fmt.Sprintf("r%d", k)}
		for _, a := range args {
			switch a.Key {
			case "to":
				for v := range strings.SplitSeq(a.Vals[0], ",") {
					r.To = append(r.To, addr.MustRegion(v))
				}
			case "unreachable":
				r.Unreachable = policy.Drop
			case "class":
				r.Class, err = bundle.ParseClass(a.Vals[0])
				r.HasClass = err == nil
			case "ttl":
				r.TTL, _ = time.ParseDuration(a.Vals[0])
			case "displace":
				r.OnFull = policy.DropOldest
			default:
				r.Topic = a.Key
			}
		}
		routes = append(routes, r)
	}
	table, err := policy.NewTable(routes)
	if err != nil {
		panic(err)
	}
	e.routes = table
	e.configure()
}

func (e *env) cmdSettings() {
	e.settings.OrderWait = e.duration("order-wait")
	e.settings.Batch.Max = e.number("batch", 0)
	e.settings.Retained = core.RetainedSettings{Horizon: e.duration("horizon"), Max: e.number("max-retained", 0)}
	e.settings.Wills = core.WillSettings{Max: e.number("max-wills", 0), MaxBytes: int64(e.number("max-wills-bytes", 0))}
	for class := range e.settings.Batch.Wait {
		e.settings.Batch.Wait[class] = e.duration("batch-wait")
	}
	e.configure()
}

func (e *env) configure() {
	for _, n := range e.nodes {
		n.core.Configure(e.now, e.settings, e.routes)
		n.pump()
	}
}
