package node_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// profileTable is where times of links belong.
const profileTable = "node/link/profile.go"

// Reasons that hold for several times.
const (
	ofHere     = "is of this machine or its own network: no link is in it"
	ofProducts = "is a life or a horizon that users set or see, not a wait for a peer"
	ofTelling  = "damps how often is told what changes; nobody is judged by it"
	ofUnits    = "converts units"
	decides    = "decides liveness; moves to the profile with failover"
)

// allowedTimes are the fixed times in packages that serve links, by file and
// declaration, each with the reason why it does not decide whether a link is
// alive or is tried again, or with what will become of it.
var allowedTimes = map[string]string{
	"node/link/explain.go Manager.warn":         "how often a line of the log is written",
	"node/link/layer.go salvoRTT":               "from which distance loss speaks for salvo; nothing waits for it",
	"node/link/salvo_out.go blockTime":          "how much one block holds; nothing waits for it",
	"node/link/salvo_out.go chargeEvery":        "how often bytes of QUIC are taken off a rate",
	"node/link/session.go Session.keepSchedule": "rounds a time for the log",

	"node/salvo/config.go MaxOWLT":     "the farthest peer that can be configured",
	"node/salvo/config.go groupTime":   "how much is sent between one whole train and the next; nothing waits for it",
	"node/salvo/config.go leastLate":   "how late this machine's own timers are",
	"node/salvo/config.go Config.late": "how late this machine's own timers are, at most",
	"node/stream/config.go Service.withDefaults": "connects to and checks a server beside the node; " +
		ofHere,
	"node/stream/ingress.go Server.accept": "lets this machine run into fewer open files; " + ofHere,
	"node/stream/ingress.go retryEvery":    "looks again at the node's own table of paths, which reports changes at once; " + ofHere,

	"node/core/liveness.go scoutPace":     "until alternates are looked for after paths changed; nobody is judged by it",
	"node/core/liveness.go scoutNodes":    "nodes, not a time",
	"node/core/probing.go DefaultProbing": "for links without a profile, which virtual worlds have; the same as the table's first row",
	"node/core/links.go lull":             "slows down bundles that went round, per hop; no link is judged by it",

	"node/core/echo.go echoEvery": "how often one node may ask for an answer to a ping",

	"node/core/core.go DefaultTTL":             ofProducts,
	"node/core/core.go DefaultOrderWait":       ofProducts,
	"node/core/retained.go DefaultHorizon":     ofProducts,
	"node/core/roam.go RoamTTL":                ofProducts,
	"node/core/retained_sync.go CompareTTL":    ofProducts,
	"node/core/stamp.go DefaultDrift":          "how far a clock may be wrong",
	"node/core/stamp.go stampReserve":          "how far a clock's durable bound is ahead of it",
	"node/core/roam.go unknownAge":             "how old what is unknown may be",
	"node/core/roam.go overlapTail":            "how long repeats are remembered",
	"node/core/roam.go nearDelay":              "which nodes are near enough for a CONNECT to wait for them",
	"node/core/roam.go waitLeast":              "the least of a wait that is six times the delay of the way; the CONNECT goes on without an answer",
	"node/core/adverts.go interestPace":        ofTelling,
	"node/core/reach.go lookPace":              ofTelling,
	"node/core/reach.go quickRegions":          ofTelling,
	"node/core/reach.go slowRegions":           ofTelling,
	"node/core/tell.go quickPace":              ofTelling,
	"node/core/tell.go slowPace":               ofTelling,
	"node/core/roam.go nearPause":              "collects claims for one bundle, which custody carries; nothing is sent again",
	"node/core/roam.go farPause":               "collects claims for one bundle, which custody carries; the least beside twice the delay",
	"node/core/roam.go storedPause":            "collects claims for a way that is down; the contact takes them along",
	"node/core/retained_sync.go settleTime":    "the least of a time that is eight times the delay of the way; it begins a comparison of nodes",
	"node/core/retained_sync.go volatileTime":  "the least of a time that is eight times the delay of the way; it begins a comparison of nodes",
	"node/core/retained_sync.go answerTime":    "the least of a time that is eight times the delay of the way; a comparison of nodes, which custody carries, begins anew",
	"node/core/retained_sync.go storedTime":    "how often a comparison is put into the store for a way that is down",
	"node/core/retained_sync.go maxGap":        ofTelling,
	"node/core/retained_sync.go Core.answered": ofTelling,
	"node/core/docket.go wordRetry":            "until this node's own store may have room; " + ofHere,
	"node/core/wills.go willPause":             "until this node's own store may have room; " + ofHere,
	"node/core/wills_saved.go parseWill":       ofUnits,
}

// TestNoFixedTimes holds the times of links in one table. A time that is right
// in one room is wrong at the Moon, and one second in the wrong place makes a
// link flap for ever.
func TestNoFixedTimes(t *testing.T) {
	used := map[string]bool{}
	for _, f := range goFiles(t) {
		if f.test() || f.path == profileTable || !servesLinks(f.path) {
			continue
		}
		for _, at := range fixedTimes(f) {
			key := f.path + " " + at.decl
			if used[key] = true; allowedTimes[key] == "" {
				t.Errorf("%s:%d: %s in %s: a time of a link belongs into the table of %s; another one onto the list of this test, with the reason why no link lives or dies by it", f.path, at.line, at.text, at.decl, profileTable)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(allowedTimes)) {
		if !used[key] {
			t.Errorf("%s: there is no fixed time any more; take it off the list", key)
		}
	}
}

func servesLinks(path string) bool {
	return slices.ContainsFunc([]string{"node/link/", "node/core/", "node/stream/", "node/salvo/", "node/mux/"}, func(dir string) bool { return strings.HasPrefix(path, dir) })
}

// fixedTime is one place where a time is written as a number.
type fixedTime struct {
	line int
	decl string // function, method with its type, or constant
	text string
}

// fixedTimes finds them: units of package time that are not there to convert a
// variable, and in node/core, whose clock is a number of milliseconds, numbers
// that are reckoned with as such.
func fixedTimes(f goFile) []fixedTime {
	s := timeSearch{f: f, millis: strings.HasPrefix(f.path, "node/core/"), converts: map[ast.Node]bool{}}
	for _, d := range f.ast.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			s.decl = d.Name.Name
			if d.Recv != nil {
				if id := receiver(d.Recv.List[0].Type); id != nil {
					s.decl = id.Name + "." + s.decl
				}
			}
			ast.Inspect(d, s.visit)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					s.values(v)
				}
			}
		}
	}
	return s.found
}

func receiver(e ast.Expr) *ast.Ident {
	if p, ok := e.(*ast.StarExpr); ok {
		e = p.X
	}
	id, _ := e.(*ast.Ident)
	return id
}

type timeSearch struct {
	f        goFile
	millis   bool
	decl     string
	converts map[ast.Node]bool // operands that only convert
	found    []fixedTime
}

func (s *timeSearch) note(n ast.Node, text string) {
	s.found = append(s.found, fixedTime{s.f.line(n.Pos()), s.decl, text})
}

// values looks at constants and tables.
func (s *timeSearch) values(v *ast.ValueSpec) {
	s.decl = v.Names[0].Name
	ast.Inspect(v, s.visit)
	says := millisWord.MatchString(v.Comment.Text()) || timeWord.MatchString(s.decl) && !strings.HasPrefix(s.decl, "max")
	if !s.millis || !says {
		return
	}
	for _, e := range v.Values {
		ast.Inspect(e, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && number(lit) >= 10 {
				s.note(lit, lit.Value)
			}
			return true
		})
	}
}

var (
	millisWord = regexp.MustCompile(`\bms\b`)
	timeWord   = regexp.MustCompile(`(?i)(pace|pause|wait|retry|every|delay|fence|time|timeout|patience|interval|regions|reserve|gap)$`)
)

// visit looks at one node of a declaration.
func (s *timeSearch) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		s.binary(n)
	case *ast.SelectorExpr:
		if unitOfTime(n) && !s.converts[n] {
			s.note(n, "time."+n.Sel.Name)
		}
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && s.millis && (id.Name == "max" || id.Name == "min") {
			s.reckoned(n.Args...)
		}
	}
	return true
}

// binary tells a time from a conversion: d / time.Second and
// time.Duration(n) * time.Second convert, 3 * time.Second does not.
func (s *timeSearch) binary(n *ast.BinaryExpr) {
	switch n.Op {
	case token.MUL:
		s.converts[unparen(n.X)] = s.converts[unparen(n.X)] || !constant(n.Y)
		s.converts[unparen(n.Y)] = s.converts[unparen(n.Y)] || !constant(n.X)
		if s.millis {
			s.reckoned(n.X, n.Y)
		}
	case token.QUO, token.REM:
		s.converts[unparen(n.Y)] = !constant(n.X)
	case token.ADD, token.SUB:
		if s.millis {
			s.reckoned(n.X, n.Y)
		}
	}
}

// reckoned notes round numbers among the operands, where others are not
// constant. 1000 times or through something converts.
func (s *timeSearch) reckoned(operands ...ast.Expr) {
	if !slices.ContainsFunc(operands, func(e ast.Expr) bool { return !constant(e) }) {
		return
	}
	for _, e := range operands {
		lit, ok := unparen(e).(*ast.BasicLit)
		if !ok || number(lit) < 100 || number(lit)%10 != 0 || number(lit) == 1000 && s.converts[lit] {
			continue
		}
		s.note(lit, lit.Value)
	}
}

// unparen takes parentheses and conversions of type off: of int64(time.Hour)
// it returns time.Hour.
func unparen(e ast.Expr) ast.Expr {
	for {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
		case *ast.CallExpr:
			id, ok := x.Fun.(*ast.Ident)
			if !ok || len(x.Args) != 1 || !slices.Contains([]string{"int", "int64", "uint64", "float64"}, id.Name) {
				return e
			}
			e = x.Args[0]
		default:
			return e
		}
	}
}

// constant reports whether nothing but literals and units is in e. What a name
// stands for is looked at where it is declared.
func constant(e ast.Expr) bool {
	switch x := unparen(e).(type) {
	case *ast.BasicLit:
		return true
	case *ast.SelectorExpr:
		return unitOfTime(x)
	case *ast.BinaryExpr:
		return constant(x.X) && constant(x.Y)
	}
	return false
}

func unitOfTime(s *ast.SelectorExpr) bool {
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == "time" && slices.Contains([]string{"Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour"}, s.Sel.Name)
}

func number(lit *ast.BasicLit) int64 {
	n, err := strconv.ParseInt(lit.Value, 0, 64)
	if err != nil || lit.Kind != token.INT {
		return 0
	}
	return n
}

// TestFixedTimes tests the search itself.
func TestFixedTimes(t *testing.T) {
	const src = `package core
import "time"
const (
	dialTimeout = 3 * time.Second
	nearPause   = 20 // ms
	slowPace    = 60_000
	maxNodes    = 10_000
	buckets     = 4096
)
type link struct { rtt int64 }
func (l *link) patience() int64 { return 3*l.rtt + 3*max(l.rtt, 250) }
func (l *link) interval() int64 { return l.rtt + 1500 }
func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
func millis(d time.Duration) int64 { return int64(d/time.Millisecond) + int64(d) / int64(time.Minute) }
func least(d time.Duration) time.Duration { return max(d, time.Minute) }
func expiry(s int64) int64 { return s*1000 }
func lull(n int64) int64 { return 100*n }
func hours(d time.Duration) bool { return d > (time.Hour) }
func room(n int) int { return n + 128 }
`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "node/core/p.go", src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, at := range fixedTimes(goFile{"node/core/p.go", []byte(src), fset, f}) {
		got = append(got, fmt.Sprint(at.decl, " ", at.text))
	}
	want := []string{
		"dialTimeout time.Second", "nearPause 20", "slowPace 60_000", "link.patience 250", "link.interval 1500",
		"least time.Minute", "lull 100", "hours time.Hour",
	}
	if !slices.Equal(got, want) {
		t.Errorf("found %q\nwant  %q", got, want)
	}
}
