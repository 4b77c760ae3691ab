package node_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is the import path of the repository.
const module = "github.com/farhop/farhop"

// row is what one package of the module may import of the others.
type row struct {
	pkg string
	may string // packages, space separated; "all" but for what forbidden names
	why string // what any other import would break
}

// table is the house of docs/architecture.md as a test. An edge that is not
// here is forbidden: by the reason in forbidden, or by the why of its row.
var table = []row{
	// Names, bytes and vocabulary.
	{"routing/addr", "", "names are the ground floor: they know nobody"},
	{"routing/contact", "", "a schedule is about time alone and knows no nodes"},
	{"routing/interest", "", "topic filters are MQTT's and know no nodes"},
	{"storeforward/cbor", "", "bytes of items, not what they mean"},
	{"storeforward/bundle", "routing/addr storeforward/cbor", "the carried unit is read by relays that know nothing else"},
	{"storeforward/bundle/bpa", "routing/addr storeforward/bundle storeforward/cbor", "procedures of RFC 9171 for anyone's bundles; who owns them and where they wait is the caller's"},
	{"storeforward/store", "routing/addr storeforward/bundle", "a contract that engines and machine share must not know either"},

	{"storeforward/batch", "storeforward/cbor", "bytes of messages, not what they mean nor where they go"},
	{"storeforward/seqset", "", "numbers, not what they count"},

	// Decisions without I/O.
	{"routing/policy", "routing/addr routing/interest storeforward/bundle", "rules are compiled from what is given, never looked up"},
	{"routing", "routing/addr routing/interest storeforward/bundle", "next hops follow from adverts; what is stored does not matter"},
	{"storeforward", "storeforward/bundle storeforward/store", "custody does not depend on where a message goes or who sent it"},
	{"node/wire", "routing routing/addr storeforward/bundle storeforward/cbor", "frames are bytes; who sends them decides"},
	{"node/core", "routing routing/addr routing/contact routing/interest routing/policy storeforward storeforward/batch storeforward/bundle storeforward/cbor storeforward/store", "the heart decides; engines, wire and files are its driver's"},

	// Buffers.
	{"storeforward/memstore", "storeforward/bundle storeforward/store", "an engine obeys the contract and nothing else"},
	{"storeforward/vfs", "", "files, not what is in them"},
	{"storeforward/boltcheck", "", "pages of bbolt, not what they mean"},
	{"storeforward/journal/index", "storeforward/boltcheck storeforward/vfs", "a cache of keys and values; the journal knows what they say"},
	{"storeforward/journal", "routing/addr storeforward/bundle storeforward/journal/index storeforward/seqset storeforward/store storeforward/vfs", "an engine obeys the contract and nothing else"},
	{"storeforward/boltstore", "routing/addr storeforward/boltcheck storeforward/bundle storeforward/store", "an engine obeys the contract and nothing else"},
	{"storeforward/migrate", "storeforward/boltstore storeforward/bundle storeforward/journal storeforward/store", "it moves what a store.Store gives back from one engine to the other; what a node is, it does not know"},
	{"storeforward/storetest", "routing/addr storeforward/bundle storeforward/store", "the suite must not prefer one engine"},

	// Trust.
	{"crypto/identity", "", "keys are made and kept, whoever trusts them"},
	{"crypto/pki", "crypto/identity routing/addr", "who belongs to a mesh does not depend on what it carries"},

	// Neighbours that do not know each other; package node translates.
	{"broker/packet", "", "bytes of MQTT, not what they mean"},
	{"broker/listen", "", "ways to connect, not what is said"},
	{"broker/auth", "routing/policy", "who comes in, not what a broker does with them"},
	{"broker/bridge", "routing/interest", "a client of two brokers: neither is known to it"},
	{"broker/conformance", "", "cases hold any server against the standards and must not know ours"},
	{"broker", "broker/auth broker/listen broker/packet routing/interest storeforward/bundle", "MQTT must stay readable and replaceable alone"},
	{"node/salvo/fec", "", "symbols and parity, whatever they carry"},
	{"node/salvo/packet", "", "bytes and keys, not when they are sent"},
	{"node/salvo", "node/salvo/fec node/salvo/packet", "blocks of bytes over a link; what is in them, and who the peer is, it does not know"},
	{"node/parcel", "routing/addr storeforward/bundle", "bytes of a file, not what becomes of the bundles in it"},
	{"node/begun", "node/wire routing/addr", "bytes that came, whatever they will be"},
	{"node/resume", "crypto/identity", "secrets of peers, whatever they open"},
	{"node/mux", "", "streams over one connection; what is in them, and who the peer is, it does not know"},
	{"node/spool", "", "bytes that wait, whatever they are"},
	{"node/link", "node/mux node/salvo node/salvo/packet node/spool node/wire routing/addr routing/contact storeforward/bundle", "a link moves frames and decides nothing"},
	{"node/dtn", "routing/addr routing/interest storeforward/bundle storeforward/bundle/bpa storeforward/cbor", "a door moves bundles of other stacks; what waits and where it goes is the node's"},
	{"node/stream", "node/wire routing/addr storeforward/bundle", "TCP services must stay readable and replaceable alone"},
	{"node/config", "routing/addr routing/interest routing/policy storeforward/bundle", "reading a file must not need what the file configures"},
	{"node/fleet", "crypto/identity node/config storeforward/cbor", "a revision is made and checked offline, without a node"},
	{"node/admin", "crypto/identity node/config routing/addr storeforward/bundle", "the API answers from its Backend and reaches into nothing"},

	// Those who know everything.
	{"node", "all", "sim and cmd stand above or beside it"},
	{"sim/scenario", "routing/addr routing/contact routing/interest routing/policy sim/emulator/desc storeforward/bundle", "a scenario describes; sim runs it"},
	{"sim/oracle", "node/core routing/addr routing/interest storeforward/bundle storeforward/store", "laws judge what is seen at the edges of a core, whoever drives it"},
	{"sim", "node/core routing routing/addr routing/contact routing/interest routing/policy sim/oracle sim/scenario storeforward storeforward/batch storeforward/bundle storeforward/memstore storeforward/store", "a virtual world that touched the I/O side would not be repeatable"},
	{"sim/virtual", "sim/emulator/desc", "packets and their ways; what is in them, its tests know"},
	{"sim/emulator/desc", "", "a link is described alike for real programs and for virtual worlds"},
	{"sim/emulator", "sim/emulator/desc", "it stands between any two programs and looks into nothing"},
	{"sim/demo", "node node/admin node/config routing/addr routing/policy sim/bench/proc sim/emulator sim/emulator/desc", "it plays the product from outside, with what every user has"},
	{"sim/bench/proc", "", "what the system knows of a process"},
	{"sim/bench/durable", "routing/addr sim/bench/proc storeforward/boltstore storeforward/bundle storeforward/journal storeforward/memstore storeforward/store", "it drives engines as the core does, without a core"},
	{"sim/bench/mqtt/load", "sim/bench/proc", "bytes of many clients, whoever serves them"},
	{"sim/bench/mqtt/crowd", "broker sim/bench/mqtt/load sim/bench/proc storeforward/bundle", "sessions of a broker in this process"},
	{"sim/bench/mqtt/attack", "sim/bench/mqtt/load", "clients that any broker may meet"},
	{"sim/bench/mqtt", "node/config routing/addr sim/bench/mqtt/attack sim/bench/mqtt/load sim/bench/proc sim/emulator", "brokers are programs beside it"},
	{"sim/bench/links", "crypto/identity crypto/pki node/link node/wire routing/addr sim/bench/proc sim/emulator sim/emulator/desc storeforward/bundle", "links alone, without what nodes do with them"},
	{"sim/bench/contact", "node/admin node/config routing/addr sim/bench/mqtt/load sim/bench/proc sim/emulator", "nodes are programs beside it"},
	{"sim/bench/failover", "node/config routing/addr sim/bench/proc sim/emulator", "nodes are programs beside it"},
	{"sim/bench/near", "node/config routing/addr sim/bench/proc", "nodes, peers and the load are programs beside it"},
	{"sim/bench", "node/dtn routing/addr sim/bench/proc storeforward/bundle", "it measures nodes and other brokers alike, from outside; its own ends of a door are doors"},
	{"sim/crash", "node/config sim/emulator", "it judges the product from outside, by what its users get"},
	{"sim/mutants", "", "it breaks packages and runs their tests, and needs none of them"},
	{"node/e2e", "", "its tests use the program alone, from outside"},
	{"cmd/farhop", "all", "nothing stands above it"},
}

// forbidden gives the reasons that hold for many packages. A pattern ending
// in /... covers the package before it and all below.
var forbidden = []struct{ from, to, why string }{
	{"...", "cmd/...", "a command is the top of the house"},
	{"node/...", "sim/...", "a real node must never depend on a virtual world"},
	{"broker", "sim/...", "a real node must never depend on a virtual world"},
	{"...", "storeforward/storetest", "the conformance suite is for tests"},
	{"sim", "node/link", "virtual worlds have virtual links"},
	{"sim", "storeforward/boltstore", "virtual worlds keep no files"},
	{"sim", "sim/emulator", "the emulator lives in real time"},
	{"cmd/...", "node/core", "only a driver may touch the core: node or sim"},
	{"broker", "node/...", "the node calls the broker and implements its interface"},
	{"broker", "storeforward/store", "the broker never stores"},
	{"node/link", "crypto/...", "a link gets its TLS configurations; whom to trust is not its matter"},
	{"node/link", "node/core", "a link reports to its Sink; only the loop touches the core"},
	{"node/stream", "node/link", "a stream gets its Mesh; QUIC is the link's"},
	{"node/stream", "routing", "paths come from the Mesh"},
	{"node/admin", "node/core", "the API answers from its Backend; only the loop touches the core"},
	{"node/admin", "node/fleet", "revisions pass the API unread"},
	{"node/wire", "storeforward/store", "frames carry bundles, not what a disk holds"},
	{"crypto/...", "node/...", "trust is below what uses it"},
	{"routing/...", "storeforward", "a path does not depend on what waits for it"},
	{"storeforward/...", "routing", "custody does not depend on the path"},
}

// pure are the packages whose behaviour follows from their arguments alone,
// so that a virtual world repeats bit for bit.
var pure = []string{
	"routing", "routing/addr", "routing/contact", "routing/interest", "routing/policy",
	"storeforward", "storeforward/bundle", "storeforward/bundle/bpa", "storeforward/cbor", "storeforward/memstore", "storeforward/store",
	"storeforward/batch", "storeforward/seqset", "node/core", "node/salvo", "node/salvo/fec", "node/salvo/packet", "node/wire", "sim", "sim/emulator/desc", "sim/oracle", "sim/scenario",
}

// impureOn are packages among the pure ones that are not, on purpose.
var impureOn = []string{
	"storeforward/boltcheck", "storeforward/boltstore", "storeforward/journal", "storeforward/journal/index", "storeforward/migrate",
	"storeforward/storetest", "storeforward/vfs", "sim/bench", "sim/bench/contact", "sim/bench/durable", "sim/bench/failover", "sim/bench/links", "sim/bench/mqtt", "sim/bench/mqtt/attack", "sim/bench/mqtt/crowd", "sim/bench/mqtt/load", "sim/bench/near", "sim/bench/proc", "sim/crash", "sim/demo", "sim/emulator", "sim/mutants", "sim/virtual",
}

// clockless packages do I/O but take the time as an argument.
var clockless = []string{"crypto/identity", "crypto/pki", "node/config", "node/fleet"}

// impure may not be imported by pure packages themselves. fmt imports os, so
// only the direct import says something.
var impure = map[string]string{
	"os": "files and the environment differ between two runs", "os/exec": "other programs differ between two runs",
	"os/signal": "signals come from outside", "io/fs": "files differ between two runs", "path/filepath": "files differ between two runs",
	"net": "sockets differ between two runs", "net/http": "sockets differ between two runs", "syscall": "the system differs between two runs",
	"log": "the core traces by its effects, it does not log", "log/slog": "the core traces by its effects, it does not log",
	"sync": "one goroutine owns the pure side; a lock would hide a second", "sync/atomic": "one goroutine owns the pure side",
	"context": "nothing on the pure side waits", "math/rand": "seeded math/rand/v2 generators only", "crypto/rand": "two runs of one seed must be equal",
	"runtime": "scheduling must not reach a decision", "unsafe": "memory layout must not reach a decision",
	"testing": "test helpers belong into tests",
}

// heavy may not be imported by pure packages, not even through others.
var heavy = map[string]string{
	"net": "sockets", "net/http": "sockets", "log": "logging", "log/slog": "logging", "crypto/tls": "sockets",
	"github.com/quic-go/quic-go": "QUIC", "github.com/mochi-mqtt/server/v2": "MQTT", "go.etcd.io/bbolt": "files",
	"github.com/prometheus/client_golang/prometheus": "metrics",
}

// modules says which packages may use a module from elsewhere. A new one, or
// a new user, is a decision and belongs into a record in docs/adr.
var modules = []struct{ prefix, users, why string }{
	{"github.com/quic-go/quic-go", "broker/listen node/link sim/bench/near", "one package adapts QUIC for nodes, one for devices; a measurement has it as it is"},
	{"github.com/mochi-mqtt/server/v2", "broker/bridge broker/packet", "packets are checked before its codec reads them; the bridge is a client on it"},
	{"go.etcd.io/bbolt", "storeforward/boltstore storeforward/journal/index", "two packages adapt bbolt: one keeps messages in it, one a cache"},
	{"github.com/cloudflare/circl", "crypto/identity", "one package adapts ML-DSA"},
	{"github.com/klauspost/reedsolomon", "node/salvo/fec", "parity, with the vector instructions of each machine"},
	{"golang.org/x/crypto", "crypto/pki broker broker/auth cmd/farhop", "cryptography is gathered where it is reviewed"},
	{"go.yaml.in/yaml/v3", "node/config sim/emulator/desc sim/scenario", "one parser of configuration, one of scenarios, one of links"},
	{"github.com/gorilla/websocket", "broker/bridge broker/listen", "one package serves WebSockets, one dials them"},
	{"github.com/prometheus", "broker broker/auth broker/bridge broker/listen node node/admin node/link node/stream", "the registry is injected into the I/O side"},
	{"github.com/spf13", "cmd/farhop", "flags are the command's"},
	{"github.com/eclipse/paho.golang", "cmd/farhop sim/crash sim/demo", "the node serves MQTT; clients are the command, the demo and the campaign"},
	{"golang.org/x/net", "node/admin node/link sim/emulator", "limits connections; many datagrams with one system call"},
	{"golang.org/x/sync", "node node/admin node/dtn node/link node/stream broker sim/bench/failover sim/bench/links sim/demo sim/emulator cmd/farhop", "goroutines are the I/O side's"},
	{"golang.org/x/sys", "broker node node/link node/mux node/stream sim/bench/proc sim/emulator storeforward/boltstore storeforward/vfs cmd/farhop", "system calls are the I/O side's"},
	{"pgregory.net/rapid", "storeforward/storetest", "a test library"},
}

// clockReads are the places of the pure side that read the wall clock.
var clockReads = map[string]string{
	"sim/world.go time.Now":   "wall_seconds of a report is about the wall clock",
	"sim/world.go time.Since": "as above",
}

// pkg is what the go command says of one package.
type pkg struct {
	ImportPath string
	Dir        string
	Name       string
	Standard   bool
	GoFiles    []string
	Imports    []string
	Error      *struct{ Err string }
}

// graph holds all packages of the module and what they depend on, by path.
type graph map[string]*pkg

// own returns the packages of this module that hold more than tests, sorted.
func (g graph) own() []string {
	var out []string
	for p, q := range g {
		if rel, ok := relative(p); ok && len(q.GoFiles) > 0 {
			out = append(out, rel)
		}
	}
	slices.Sort(out)
	return out
}

// relative cuts the module path off an import path.
func relative(importPath string) (string, bool) {
	rel, ok := strings.CutPrefix(importPath, module+"/")
	return rel, ok
}

// root returns the top of the repository; tests run in their package folder.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("the repository is not at %s: %v", dir, err)
	}
	return dir
}

// load asks the go command for the import graph. It works offline.
func load(t *testing.T) graph {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Dir,Name,Standard,GoFiles,Imports,Error", "./...")
	cmd.Dir = root(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	g := graph{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := &pkg{}
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			return g
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		g[p.ImportPath] = p
	}
}

// matches reports whether a package lies within a pattern.
func matches(pattern, pkg string) bool {
	if pattern == "..." || pattern == pkg {
		return true
	}
	base, ok := strings.CutSuffix(pattern, "/...")
	return ok && (pkg == base || strings.HasPrefix(pkg, base+"/"))
}

// verdict says why from must not import to, "" when it may.
func verdict(from, to string) string {
	at := slices.IndexFunc(table, func(r row) bool { return r.pkg == from })
	if at < 0 {
		return "the package has no row in the table of node/arch_test.go"
	}
	allowed := strings.Fields(table[at].may)
	if slices.Contains(allowed, to) {
		return ""
	}
	for _, f := range forbidden {
		if matches(f.from, from) && matches(f.to, to) {
			return f.why
		}
	}
	if table[at].may == "all" {
		return ""
	}
	return table[at].why
}

// TestImportTable holds the import graph against the table.
func TestImportTable(t *testing.T) {
	g := load(t)
	have := g.own()
	for _, p := range have {
		if !slices.ContainsFunc(table, func(r row) bool { return r.pkg == p }) {
			t.Errorf("%s has no row in the table: say what it may import, here and in docs/architecture.md", p)
			continue
		}
		for _, imp := range g[module+"/"+p].Imports {
			if to, ok := relative(imp); ok {
				if why := verdict(p, to); why != "" {
					t.Errorf("%s must not import %s: %s", p, to, why)
				}
			}
		}
	}
	for _, r := range table {
		if !slices.Contains(have, r.pkg) {
			t.Errorf("%s has a row in the table but holds no package", r.pkg)
		}
		for to := range strings.FieldsSeq(r.may) {
			if to != "all" && !slices.Contains(have, to) {
				t.Errorf("%s may import %s, which is no package", r.pkg, to)
			}
		}
	}
	if g[module+"/crypto"] != nil {
		t.Error("crypto must hold no package: it would shadow the standard name")
	}
}

// TestDocumented wants every package in the table of the architecture, where
// one row may name several of a family: `sim`, or `/interest` after `routing`.
func TestDocumented(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root(t), "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range table {
		if !bytes.Contains(doc, []byte("`"+r.pkg+"`")) && !bytes.Contains(doc, []byte("`/"+path.Base(r.pkg)+"`")) {
			t.Errorf("docs/architecture.md does not say what %s owns", r.pkg)
		}
	}
}

// TestImportVerdicts tests the rules themselves.
func TestImportVerdicts(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"node/core", "routing", ""},
		{"node", "broker", ""},
		{"node", "sim", "a real node must never depend on a virtual world"},
		{"node", "cmd/farhop", "a command is the top of the house"},
		{"cmd/farhop", "sim", ""},
		{"cmd/farhop", "node/core", "only a driver may touch the core: node or sim"},
		{"broker", "node/stream", "the node calls the broker and implements its interface"},
		{"node/core", "broker", "the heart decides; engines, wire and files are its driver's"},
		{"unknown", "routing", "the package has no row in the table of node/arch_test.go"},
	} {
		if got := verdict(c.from, c.to); got != c.want {
			t.Errorf("%s -> %s: %q, want %q", c.from, c.to, got, c.want)
		}
	}
}

// TestModuleUsers holds dependencies from elsewhere to their places.
func TestModuleUsers(t *testing.T) {
	g := load(t)
	for _, p := range g.own() {
		for _, imp := range g[module+"/"+p].Imports {
			if _, ok := relative(imp); ok || imp == "C" || g[imp] == nil || g[imp].Standard {
				continue
			}
			at := slices.IndexFunc(modules, func(m struct{ prefix, users, why string }) bool { return matches(m.prefix+"/...", imp) })
			switch {
			case at < 0:
				t.Errorf("%s imports %s, a dependency without an entry in modules", p, imp)
			case !slices.Contains(strings.Fields(modules[at].users), p):
				t.Errorf("%s must not import %s: %s (%s)", p, imp, modules[at].why, modules[at].users)
			}
		}
	}
}

// TestPurePackages checks what pure packages import, themselves and through
// others.
func TestPurePackages(t *testing.T) {
	g := load(t)
	for _, p := range g.own() {
		if (matches("routing/...", p) || matches("storeforward/...", p) || matches("sim/...", p)) &&
			!slices.Contains(pure, p) && !slices.Contains(impureOn, p) {
			t.Errorf("%s is neither in pure nor in impureOn", p)
		}
	}
	for _, p := range pure {
		q := g[module+"/"+p]
		if q == nil {
			t.Errorf("%s is listed as pure but holds no package", p)
			continue
		}
		for _, imp := range q.Imports {
			if why := impure[imp]; why != "" {
				t.Errorf("%s must not import %s: %s", p, imp, why)
			}
		}
		for _, target := range slices.Sorted(maps.Keys(heavy)) {
			if way := g.way(q.ImportPath, target); way != nil {
				t.Errorf("%s must not reach %s (%s): %s", p, target, heavy[target], strings.Join(way, " -> "))
			}
		}
	}
}

// way returns the shortest import path from one package to another, nil when
// there is none.
func (g graph) way(from, to string) []string {
	prev := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		p := queue[0]
		if p == to {
			var way []string
			for ; p != ""; p = prev[p] {
				way = append(way, strings.TrimPrefix(p, module+"/"))
			}
			slices.Reverse(way)
			return way
		}
		if g[p] == nil {
			continue
		}
		for _, imp := range g[p].Imports {
			if _, seen := prev[imp]; !seen {
				prev[imp] = p
				queue = append(queue, imp)
			}
		}
	}
	return nil
}

// TestPureCode looks for goroutines, clocks and unseeded randomness in pure
// packages, and for clocks in clockless ones.
func TestPureCode(t *testing.T) {
	used := map[string]bool{}
	for _, p := range slices.Concat(pure, clockless) {
		isPure := slices.Contains(pure, p)
		for _, s := range parseDir(t, p) {
			for _, f := range impurities(s.fset, s.file) {
				key := s.path + " " + f.what
				if clockReads[key] != "" {
					used[key] = true
				} else if isPure || strings.HasPrefix(f.what, "time.") {
					t.Errorf("%s:%d: %s: %s", s.path, f.line, f.what, f.why)
				}
			}
		}
	}
	for key := range clockReads {
		if !used[key] {
			t.Errorf("%q is excused but not there any more", key)
		}
	}
}

// source is one parsed file; path is relative to the repository.
type source struct {
	path string
	fset *token.FileSet
	file *ast.File
}

// parseDir parses the files of one package, tests left out.
func parseDir(t *testing.T, dir string) []source {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root(t), filepath.FromSlash(dir), "*.go"))
	if err != nil || len(names) == 0 {
		t.Errorf("%s: no Go files (%v)", dir, err)
	}
	var out []source
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Errorf("parse: %v", err)
			continue
		}
		out = append(out, source{path.Join(dir, filepath.Base(name)), fset, f})
	}
	return out
}

// finding is one breach of a rule within a file.
type finding struct {
	line      int
	what, why string
}

// clock are the names of package time that read or wait for the wall clock.
var clock = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick"}

// seeded are the names of math/rand/v2 that do not touch the global generator.
var seeded = []string{"New", "NewPCG", "NewChaCha8", "NewZipf", "Rand", "Source", "PCG", "ChaCha8", "Zipf"}

// impurities finds goroutines, clock reads and global randomness in a file.
func impurities(fset *token.FileSet, f *ast.File) []finding {
	names := map[string]string{} // local name of an import -> its path
	for _, imp := range f.Imports {
		p := strings.Trim(imp.Path.Value, `"`)
		name := cmp.Or(map[string]string{"math/rand/v2": "rand"}[p], path.Base(p))
		if imp.Name != nil {
			name = imp.Name.Name
		}
		names[name] = p
	}
	var out []finding
	ast.Inspect(f, func(n ast.Node) bool {
		line := 0
		if n != nil {
			line = fset.Position(n.Pos()).Line
		}
		switch n := n.(type) {
		case *ast.GoStmt:
			out = append(out, finding{line, "go statement", "one goroutine owns the pure side"})
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			switch p, sel := names[x.Name], n.Sel.Name; {
			case p == "time" && slices.Contains(clock, sel):
				out = append(out, finding{line, "time." + sel, "the time is an argument, the next deadline a result"})
			case p == "math/rand/v2" && !slices.Contains(seeded, sel), p == "math/rand":
				out = append(out, finding{line, "rand." + sel, "randomness comes from a seeded generator that is passed in"})
			}
		}
		return true
	})
	return out
}

// TestImpurities tests the search itself.
func TestImpurities(t *testing.T) {
	const src = `package p
import (
	clk "time"
	"math/rand/v2"
)
var now = clk.Now
func f(r *rand.Rand) { go f(nil); _ = rand.IntN(3); _ = r.IntN(3); _ = clk.UnixMilli(0) }
`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "p.go", src, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range impurities(fset, f) {
		got = append(got, fmt.Sprintf("%d %s", i.line, i.what))
	}
	if want := []string{"6 time.Now", "7 go statement", "7 rand.IntN"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}
