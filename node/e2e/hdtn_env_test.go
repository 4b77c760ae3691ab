//go:build linux

package e2e

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
)

// Node numbers of these tests: an application that sends through HDTN, one
// that receives, HDTN itself, and ours.
const (
	hdtnSource = 1
	hdtnSink   = 2
	hdtnRelay  = 10
	ourNumber  = 17
)

// hdtn is NASA's HDTN in one process, between its applications and our node.
type hdtn struct {
	t        *testing.T
	programs string // folder
	dir      string
	induct   string // where it listens for TCPCLv4
}

// hdtnSettings are what tests vary.
type hdtnSettings struct {
	segmentMRU int
	maxBundle  int
	next       map[int]string // neighbours that it dials, by node number
}

// needHDTN returns the folder with HDTN's programs.
func needHDTN(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("FARHOP_HDTN")
	if folder == "" {
		t.Skip("SKIPPED: HDTN is missing, so nothing was proved about it: build it as docs/dtn-interop.md says and run with FARHOP_HDTN=/path/to/folder of its programs")
	}
	for _, name := range []string{"hdtn-one-process", "bpgen-async", "bpsendfile", "bpreceivefile"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Fatalf("FARHOP_HDTN: %v", err)
		}
	}
	return folder
}

// program starts one of HDTN's programs and returns the file with its output.
// It is killed at the end of the test.
func (h *hdtn) program(name string, args ...string) (cmd *exec.Cmd, log string) {
	h.t.Helper()
	f, err := os.CreateTemp(h.dir, name+"-*.log")
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	cmd = exec.Command(filepath.Join(h.programs, name), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = h.dir, f, f
	if err := start(cmd); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if h.t.Failed() {
			h.t.Logf("%s said:\n%s", name, tail(f.Name(), 40))
		}
	})
	return cmd, f.Name()
}

// write writes a configuration and returns its path.
func (h *hdtn) write(name string, content any) string {
	h.t.Helper()
	data, err := json.MarshalIndent(content, "", "  ")
	path := filepath.Join(h.dir, name)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return path
}

type object = map[string]any

// inducts and outducts are sections of its configurations.
func inducts(address string, mru int) object {
	_, port, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(port)
	return object{"inductConfigName": "in", "inductVector": []object{{
		"name": "in", "convergenceLayer": "tcpcl_v4", "boundPort": n, "keepAliveIntervalSeconds": 15,
		"numRxCircularBufferElements": 200, "numRxCircularBufferBytesPerElement": 20000,
		"tcpclV4MyMaxRxSegmentSizeBytes": mru, "tlsIsRequired": false,
		"certificatePemFile": "", "privateKeyPemFile": "", "diffieHellmanParametersPemFile": "",
	}}}
}

func outducts(mru int, next map[int]string) object {
	list := []object{}
	for node, address := range next {
		host, port, _ := net.SplitHostPort(address)
		n, _ := strconv.Atoi(port)
		list = append(list, object{
			"name": fmt.Sprintf("to %d", node), "convergenceLayer": "tcpcl_v4", "nextHopNodeId": node,
			"remoteHostname": host, "remotePort": n, "maxNumberOfBundlesInPipeline": 50, "maxSumOfBundleBytesInPipeline": 50_000_000,
			"keepAliveIntervalSeconds": 17, "tcpclAllowOpportunisticReceiveBundles": true, "tcpclV4MyMaxRxSegmentSizeBytes": mru,
			"tryUseTls": false, "tlsIsRequired": false, "useTlsVersion1_3": false, "doX509CertificateVerification": false,
			"verifySubjectAltNameInX509Certificate": false, "certificationAuthorityPemFileForVerification": "",
		})
	}
	return object{"outductConfigName": "out", "outductVector": list}
}

// newHDTN starts HDTN, which dials its neighbours as they come.
func newHDTN(t *testing.T, s hdtnSettings) *hdtn {
	t.Helper()
	h := &hdtn{t: t, programs: needHDTN(t), dir: t.TempDir(), induct: freePort(t)}
	port := func() int {
		_, p, _ := net.SplitHostPort(freePort(t))
		n, _ := strconv.Atoi(p)
		return n
	}
	conf := h.write("hdtn.json", object{
		"hdtnConfigName": "test", "userInterfaceOn": false, "mySchemeName": "unused", "myNodeId": hdtnRelay, "myBpEchoServiceId": 2047,
		"myCustodialSsp": "unused", "myCustodialServiceId": 0, "myRouterServiceId": 100, "isAcsAware": true, "acsMaxFillsPerAcsPacket": 100,
		"acsSendPeriodMilliseconds": 1000, "retransmitBundleAfterNoCustodySignalMilliseconds": 10000, "maxBundleSizeBytes": s.maxBundle,
		"maxIngressBundleWaitOnEgressMilliseconds": 2000, "bufferRxToStorageOnLinkUpSaturation": false, "maxLtpReceiveUdpPacketSizeBytes": 65536,
		"neighborDepletedStorageDelaySeconds": 0, "fragmentBundlesLargerThanBytes": 0, "enforceBundlePriority": false,
		"zmqBoundRouterPubSubPortPath": port(), "zmqBoundTelemApiPortPath": port(),
		"inductsConfig": inducts(h.induct, s.segmentMRU), "outductsConfig": outducts(s.segmentMRU, s.next),
		"storageConfig": object{
			"storageImplementation": "asio_single_threaded", "tryToRestoreFromDisk": false, "autoDeleteFilesOnExit": true,
			"totalStorageCapacityBytes": 1 << 30, "storageDeletionPolicy": "never",
			"storageDiskConfigVector": []object{{"name": "d1", "storeFilePath": filepath.Join(h.dir, "store.bin")}},
		},
	})
	contacts := []object{}
	for node := range s.next {
		contacts = append(contacts, object{
			"contact": len(contacts), "source": hdtnRelay, "dest": node, "startTime": 0, "endTime": 100_000, "rateBitsPerSec": 0, "owlt": 1,
		})
	}
	plan := h.write("contacts.json", object{"contacts": contacts})
	_, log := h.program("hdtn-one-process", "--hdtn-config-file="+conf, "--contact-plan-file="+plan)
	until(t, func() string { return "HDTN to listen:\n" + tail(log, 20) }, func() bool {
		conn, err := net.Dial("tcp", h.induct)
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
	return h
}

// receive starts HDTN's application that writes files, at address, and
// returns its folder and its log.
func (h *hdtn) receive(address string) (folder, log string) {
	h.t.Helper()
	folder = filepath.Join(h.dir, "received")
	conf := h.write("sink.json", inducts(address, 200_000))
	_, log = h.program("bpreceivefile", "--save-directory="+folder, fmt.Sprintf("--my-uri-eid=ipn:%d.1", hdtnSink), "--inducts-config-file="+conf)
	return folder, log
}

// source writes the configuration of an application that sends, and returns
// its common arguments.
func (h *hdtn) source(to string) []string {
	h.t.Helper()
	conf := h.write("source.json", outducts(200_000, map[int]string{hdtnRelay: h.induct}))
	return []string{
		fmt.Sprintf("--my-uri-eid=ipn:%d.1", hdtnSource), "--dest-uri-eid=" + to, "--outducts-config-file=" + conf, "--use-bp-version-7",
	}
}

// send starts HDTN's application that sends every file once, one bundle each.
func (h *hdtn) send(to string, files map[string][]byte) {
	h.t.Helper()
	folder, err := os.MkdirTemp(h.dir, "send")
	if err != nil {
		h.t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	h.program("bpsendfile", append(h.source(to), "--file-or-folder-path="+folder)...)
}

// The payloads of its file applications begin with the file's length, the
// place and the length of this part (64, 64 and 32 bits, the lowest byte
// first), the length of the name (8 bits) and three bytes of nothing; then
// come the name and the part.
const hdtnFileHead = 24

func hdtnFile(name string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, byte(len(name)), 0, 0, 0)
	return slices.Concat(b, []byte(name), data)
}

// openHDTNFile reads such a payload, which has to be a whole file.
func openHDTNFile(b []byte) (name string, data []byte, err error) {
	if len(b) < hdtnFileHead || len(b) < hdtnFileHead+int(b[20]) {
		return "", nil, fmt.Errorf("%d bytes are no file", len(b))
	}
	at := hdtnFileHead + int(b[20])
	name, data = string(b[hdtnFileHead:at]), b[at:]
	if n := binary.LittleEndian.Uint64(b); n != uint64(len(data)) {
		err = fmt.Errorf("%s has %d bytes of %d", name, len(data), n)
	}
	return filepath.Base(name), data, err
}

// watch subscribes with a session that outlives its connection; each line of
// what it receives is a payload in hex.
func watch(d *daemon, id, filter string, qos int) *client {
	d.t.Helper()
	c := mosquitto(d.t, "mosquitto_sub", d, nil, "-c", "-i", id, "-t", filter, "-q", fmt.Sprint(qos), "-F", "%x")
	d.knows(d, filter)
	return c
}

// payloads are what such a subscriber received so far.
func (c *client) payloads() (out [][]byte) {
	c.t.Helper()
	for _, line := range c.lines() {
		b, err := hex.DecodeString(line)
		if err != nil {
			c.t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// hdtnNeighbour makes the node that is HDTN's neighbour, which listens at door
// and dials HDTN, unless that is "".
func hdtnNeighbour(t *testing.T, door, dial string) *daemon {
	t.Helper()
	d := newDaemon(t, "earth-1")
	d.init("earth")
	d.edit(func(c *config.Config) {
		c.MQTT.MaxPacket = 4 << 20
		c.DTN = config.DTN{
			Node:   addr.IPN(ourNumber, 0),
			Listen: []config.DTNListener{{Kind: "tcpcl", Address: config.HostPort(door), TLS: "none"}},
			Peers: []config.DTNPeer{{
				Name: "hdtn", Kind: "tcpcl", Address: config.HostPort(dial), Node: addr.IPN(hdtnRelay, 0),
				Serves: []addr.Pattern{mustPattern(t, fmt.Sprintf("ipn:%d.*", hdtnSink))}, TLS: "none",
			}},
			Mappings: []config.DTNMapping{{EID: addr.IPN(ourNumber, 5), Topic: "from/hdtn"}},
			Exports:  []config.DTNExport{{Topic: "plant/#", To: fmt.Sprintf("ipn:%d.1", hdtnSink)}},
		}
	})
	d.run()
	return d
}
