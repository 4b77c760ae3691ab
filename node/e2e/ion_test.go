//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
)

// ionNode is ION's number in these tests.
const ionNode = 30

// ion is a node of JPL's ION.
type ion struct {
	t        *testing.T
	programs string // folder
	dir      string
}

// newION starts ION, which listens for STCP at one address and dials another.
func newION(t *testing.T, listen, dial string) *ion {
	t.Helper()
	folder := os.Getenv("FARHOP_ION")
	if folder == "" {
		t.Skip("SKIPPED: ION is missing, so nothing was proved about it: build it as docs/dtn-interop.md says and run with FARHOP_ION=/path/to/folder of its programs")
	}
	n := &ion{t: t, programs: folder, dir: t.TempDir()}
	// The key of its shared memory has to be its own; so is the port.
	_, key, _ := net.SplitHostPort(listen)
	for name, text := range map[string]string{
		"ion.conf": fmt.Sprintf("wmKey %s\nsdrName sdr%s\nwmSize 20000000\nheapWords 5000000\nconfigFlags 1\npathName %s\n", key, key, n.dir),
		"ionrc": fmt.Sprintf("1 %[1]d ion.conf\ns\na contact +0 +86400 %[1]d %[2]d 100000000\na contact +0 +86400 %[2]d %[1]d 100000000\n"+
			"a range +0 +86400 %[1]d %[2]d 1\n", ionNode, ourNumber),
		"bprc": fmt.Sprintf("1\na scheme ipn 'ipnfw' 'ipnadminep'\na endpoint ipn:%[1]d.1 q\na endpoint ipn:%[1]d.2 q\na endpoint ipn:%[1]d.3 q\n"+
			"a protocol stcp 1400 100\na induct stcp %[2]s stcpcli\na outduct stcp %[3]s stcpclo\nr 'ipnadmin ipnrc'\ns\n", ionNode, listen, dial),
		"ipnrc": fmt.Sprintf("a plan %d stcp/%s\n", ourNumber, dial),
	} {
		if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		_ = n.command(nil, "bpadmin", ".").Run()
		_ = n.command(nil, "ionadmin", ".").Run()
		if t.Failed() {
			t.Logf("ION said:\n%s", tail(filepath.Join(n.dir, "ion.log"), 40))
		}
	})
	n.run(nil, "ionadmin", "ionrc")
	n.run(nil, "bpadmin", "bprc")
	return n
}

// command makes one of ION's programs ready to start.
func (n *ion) command(stdin []byte, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(n.programs, name), args...)
	cmd.Dir = n.dir
	cmd.Env = append(os.Environ(), "PATH="+n.programs+":"+os.Getenv("PATH"), "ION_NODE_LIST_DIR="+n.dir)
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	return cmd
}

// run runs a program to its end. Its output goes to a file, which the daemons
// that it starts may keep open.
func (n *ion) run(stdin []byte, name string, args ...string) {
	n.t.Helper()
	f, err := os.CreateTemp(n.dir, name+"-*.log")
	if err != nil {
		n.t.Fatal(err)
	}
	defer f.Close()
	cmd := n.command(stdin, name, args...)
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Run(); err != nil {
		n.t.Fatalf("%s %v: %v\n%s", name, args, err, tail(f.Name(), 20))
	}
}

// listen starts a program that receives, and returns the file with its output.
func (n *ion) listen(name string, args ...string) (log string) {
	n.t.Helper()
	log = filepath.Join(n.dir, name+".log")
	f, err := os.Create(log)
	if err != nil {
		n.t.Fatal(err)
	}
	defer f.Close()
	cmd := n.command(nil, name, args...)
	cmd.Stdout, cmd.Stderr = f, f
	if err := start(cmd); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	return log
}

// TestION: MQTT at our node and ION's applications at the other end of STCP,
// both ways.
func TestION(t *testing.T) {
	door, theirs := freePort(t), freePort(t)
	n := newION(t, theirs, door)
	earth := newDaemon(t, "earth-1")
	earth.init("earth")
	earth.edit(func(c *config.Config) {
		c.MQTT.MaxPacket = 4 << 20
		c.DTN = config.DTN{
			Node:   addr.IPN(ourNumber, 0),
			Listen: []config.DTNListener{{Kind: "stcp", Address: config.HostPort(door), Peer: "ion"}},
			Peers: []config.DTNPeer{{
				Name: "ion", Kind: "stcp", Address: config.HostPort(theirs), Serves: []addr.Pattern{mustPattern(t, fmt.Sprintf("ipn:%d.*", ionNode))},
			}},
			Mappings: []config.DTNMapping{{EID: addr.IPN(ourNumber, 5), Topic: "from/ion"}, {EID: addr.IPN(ourNumber, 6), Topic: "files/ion"}},
			Exports: []config.DTNExport{
				{Topic: "plant/#", To: fmt.Sprintf("ipn:%d.1", ionNode)}, {Topic: "file/#", To: fmt.Sprintf("ipn:%d.2", ionNode)},
			},
		}
	})
	earth.run()
	sub := subscribe(earth, "historian", "from/#", 1)
	lines := n.listen("bpsink", fmt.Sprintf("ipn:%d.1", ionNode))
	n.listen("bprecvfile", fmt.Sprintf("ipn:%d.2", ionNode))

	sent := numbered("to-ion", 300)
	publish(earth, "plant/1", 1, sent...)
	var got []string
	until(t, func() string { return fmt.Sprintf("%d lines at ION's application, %d came", len(sent), len(got)) }, func() bool {
		got = quoted(lines)
		return len(got) >= len(sent)
	})
	if r := compare(sent, got); len(r.missing) > 0 || r.repeats > 0 || len(r.foreign) > 0 || !r.ordered {
		t.Errorf("at ION's application: %s", r)
	}
	back := numbered("from-ion", 300)
	n.run([]byte(strings.Join(back, "\n")+"\n"), "bpsource", fmt.Sprintf("ipn:%d.5", ourNumber))
	sub.once(back)
	ionFile(t, n, earth)
	earth.wait("empty queues", func(s admin.Status) bool { return len(s.Queues) == 0 })
}

// quoted are the payloads that bpsink shows.
func quoted(log string) (out []string) {
	said, _ := os.ReadFile(log)
	for line := range strings.SplitSeq(string(said), "\n") {
		if line = strings.TrimSpace(line); len(line) > 1 && line[0] == '\'' && line[len(line)-1] == '\'' {
			out = append(out, line[1:len(line)-1])
		}
	}
	return out
}

// ionFile sends 1 MB each way.
func ionFile(t *testing.T, n *ion, earth *daemon) {
	t.Helper()
	data := someFiles(0, 1_000_000)["large-1000000.bin"]
	path := filepath.Join(n.dir, "large")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	mosquitto(t, "mosquitto_pub", earth, nil, "-t", "file/1", "-q", "1", "-f", path).done()
	until(t, text("1 MB at ION's application"), func() bool {
		got, _ := os.ReadFile(filepath.Join(n.dir, "testfile1"))
		return bytes.Equal(got, data)
	})
	sub := watch(earth, "files", "files/#", 1)
	n.run(nil, "bpsendfile", fmt.Sprintf("ipn:%d.3", ionNode), fmt.Sprintf("ipn:%d.6", ourNumber), "large")
	until(t, text("1 MB of ION's application"), func() bool { return len(sub.lines()) > 0 })
	if got := sub.payloads(); len(got) != 1 || !bytes.Equal(got[0], data) {
		t.Errorf("%d payloads came, want the file", len(got))
	}
}
