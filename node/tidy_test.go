package node_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Limits of size, in lines. Medians are alike everywhere; taste shows in the
// tail.
const (
	maxFile = 600
	maxFunc = 70
	maxText = 1 << 20 // bytes of a file that is looked at as text
)

// goFile is one parsed Go file of the repository, tests among them.
type goFile struct {
	path string // relative, with slashes
	src  []byte
	fset *token.FileSet
	ast  *ast.File
}

func (f goFile) test() bool { return strings.HasSuffix(f.path, "_test.go") }

func (f goFile) line(p token.Pos) int { return f.fset.Position(p).Line }

// walk calls f for every file of the repository that could be text: not what
// git keeps, what is built, or a data directory at the top.
func walk(t *testing.T, f func(rel string, src []byte)) {
	t.Helper()
	top := root(t)
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(top, p)
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", "dist", "farhop"}, rel) {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxText {
			return err
		}
		src, err := os.ReadFile(p)
		if err == nil {
			f(rel, src)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// goFiles parses all Go files.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var out []goFile
	walk(t, func(rel string, src []byte) {
		if !strings.HasSuffix(rel, ".go") || strings.Contains(rel, "/testdata/") {
			return
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, rel, src, parser.ParseComments)
		if err != nil {
			t.Errorf("parse: %v", err)
			return
		}
		out = append(out, goFile{rel, src, fset, f})
	})
	return out
}

// TestPackageComments wants one job told per package, commands and packages
// of tests alone among them.
func TestPackageComments(t *testing.T) {
	comments := map[string]string{} // folder -> comment
	for _, f := range goFiles(t) {
		dir := path.Dir(f.path)
		if _, ok := comments[dir]; !ok {
			comments[dir] = ""
		}
		if f.ast.Doc == nil {
			continue
		}
		doc := f.ast.Doc.Text()
		name := strings.TrimSuffix(f.ast.Name.Name, "_test")
		if name != "main" && !strings.HasPrefix(doc, "Package "+name+" ") {
			t.Errorf("%s: the package comment must begin with %q", f.path, "Package "+name+" ")
		}
		if comments[dir] != "" && !f.test() {
			t.Errorf("%s: a second package comment; one place is enough", f.path)
		}
		comments[dir] = doc
	}
	for _, dir := range slices.Sorted(maps.Keys(comments)) {
		if comments[dir] == "" {
			t.Errorf("%s: no package comment: say what it owns, what it never does and who calls it", dir)
		}
	}
}

// TestSizes holds files and functions within a screenful or two.
func TestSizes(t *testing.T) {
	for _, f := range goFiles(t) {
		if n := bytes.Count(f.src, []byte("\n")); n > maxFile {
			t.Errorf("%s: %d lines, at most %d", f.path, n, maxFile)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := f.line(fn.End()) - f.line(fn.Pos()) + 1; n > maxFunc {
				t.Errorf("%s:%d: %s has %d lines, at most %d", f.path, f.line(fn.Pos()), fn.Name.Name, n, maxFunc)
			}
		}
	}
}

// TestNoInit forbids what runs by being imported.
func TestNoInit(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s:%d: no init: what happens on import cannot be configured, ordered or tested", f.path, f.line(fn.Pos()))
			}
		}
	}
}

// TestNoState forbids package-level variables that could differ between two
// nodes of one process. Allowed are errors, embedded files, interface
// assertions, and tables that have a value and are never written to.
func TestNoState(t *testing.T) {
	packages := map[string][]goFile{}
	for _, f := range goFiles(t) {
		if !f.test() {
			dir := path.Dir(f.path)
			packages[dir] = append(packages[dir], f)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		for _, s := range state(packages[dir]) {
			t.Error(s)
		}
	}
}

// state finds the mutable package-level variables of one package.
func state(files []goFile) []string {
	var out []string
	table := map[string]string{} // name -> where, of variables that must stay as they are
	for _, f := range files {
		for _, v := range variables(f) {
			where := fmt.Sprintf("%s:%d: %s", f.path, f.line(v.name.Pos()), v.name.Name)
			switch {
			case v.name.Name == "_" || v.embedded:
			case !v.hasValue:
				out = append(out, where+" has no value: it can only be state")
			case v.pointer:
				out = append(out, where+" is a pointer or channel others can change")
			default:
				table[v.name.Name] = where
			}
		}
	}
	for _, f := range files {
		for name, line := range writes(f, table) {
			out = append(out, fmt.Sprintf("%s is written to in %s:%d", table[name], f.path, line))
		}
	}
	slices.Sort(out)
	return out
}

type variable struct {
	name     *ast.Ident
	hasValue bool
	embedded bool // go:embed
	pointer  bool
}

// variables lists the package-level variables of a file.
func variables(f goFile) []variable {
	var out []variable
	for _, d := range f.ast.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR {
			continue
		}
		for _, spec := range gen.Specs {
			s := spec.(*ast.ValueSpec)
			embedded := embeds(gen.Doc) || embeds(s.Doc)
			for i, name := range s.Names {
				v := variable{name: name, hasValue: len(s.Values) > 0, embedded: embedded}
				if i < len(s.Values) {
					v.pointer = shared(s.Values[i])
				}
				out = append(out, v)
			}
		}
	}
	return out
}

func embeds(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

// shared reports whether a value is of a kind that holds state: &T{...},
// new(T), make(...), or a zero composite of sync.
func shared(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.UnaryExpr:
		return e.Op == token.AND
	case *ast.CallExpr:
		id, ok := e.Fun.(*ast.Ident)
		return ok && (id.Name == "new" || id.Name == "make")
	case *ast.CompositeLit:
		sel, ok := e.Type.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		x, ok := sel.X.(*ast.Ident)
		return ok && (x.Name == "sync" || x.Name == "atomic")
	}
	return false
}

// writes finds what a file does to the named package-level variables:
// assignment to them or into them, taking their address, clear and delete.
func writes(f goFile, names map[string]string) map[string]int {
	out := map[string]int{}
	note := func(e ast.Expr) {
		if id := base(e); id != nil && names[id.Name] != "" && packageLevel(f, id) {
			out[id.Name] = f.line(id.Pos())
		}
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, e := range n.Lhs {
					note(e)
				}
			}
		case *ast.IncDecStmt:
			note(n.X)
		case *ast.RangeStmt:
			if n.Tok == token.ASSIGN {
				note(n.Key)
				note(n.Value)
			}
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				note(n.X)
			}
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && (id.Name == "clear" || id.Name == "delete" || id.Name == "copy") {
				note(n.Args[0])
			}
		}
		return true
	})
	return out
}

// base returns the variable that an expression such as a.b[i] starts from.
func base(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// packageLevel reports whether a name is not one of an inner scope. The
// parser resolves names within a file: those it does not know are of another
// file of the package, or of the language.
func packageLevel(f goFile, id *ast.Ident) bool {
	return id.Obj == nil || f.ast.Scope.Lookup(id.Name) == id.Obj
}

// TestState tests the search for mutable variables itself.
func TestState(t *testing.T) {
	const src = `package p
import ("embed"; "errors"; "sync")
var ErrX = errors.New("x")
var names = [...]string{"a"}
var _ error = ErrX
//go:embed x
var files embed.FS
var count int
var mu = sync.Mutex{}
var cache = map[string]int{}
var hits = 0
var ptr = &hits
func f() { cache["a"] = 1; hits++; names := []string{}; names[0] = "b"; _ = names }
`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "p.go", src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	got := state([]goFile{{"p.go", []byte(src), fset, f}})
	for i := range got {
		_, got[i], _ = strings.Cut(got[i], ": ")
		got[i], _, _ = strings.Cut(got[i], " ")
	}
	slices.Sort(got)
	if want := []string{"cache", "count", "hits", "mu", "ptr"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// TestCalls keeps output, exits and skips where they belong.
func TestCalls(t *testing.T) {
	for _, f := range goFiles(t) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if why := badCall(f, call); why != "" {
					t.Errorf("%s:%d: %s", f.path, f.line(call.Pos()), why)
				}
			}
			return true
		})
	}
}

// badCall says what is wrong with a call, "" when nothing is.
func badCall(f goFile, call *ast.CallExpr) string {
	if id, ok := call.Fun.(*ast.Ident); ok {
		if (id.Name == "print" || id.Name == "println") && id.Obj == nil {
			return "no " + id.Name + ": it goes to standard error unseen"
		}
		return ""
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return ""
	}
	switch name := x.Name + "." + sel.Sel.Name; {
	case strings.HasPrefix(name, "fmt.Print") && !f.test() && !strings.HasPrefix(f.path, "cmd/"):
		return "no " + name + " outside cmd: return it, or log it with the logger you were given"
	case name == "os.Exit" && f.ast.Name.Name != "main" && !f.test():
		return "no os.Exit outside package main: return an error"
	case (strings.HasPrefix(name, "log.Fatal") || strings.HasPrefix(name, "log.Panic")) && f.ast.Name.Name != "main":
		return "no " + name + ": return an error"
	case f.test() && slices.Contains([]string{"t.Skip", "t.Skipf", "t.SkipNow", "b.Skip", "b.Skipf", "b.SkipNow"}, name):
		if !explained(call) && !inFuzz(f, call) {
			return "a skip must say how to run the test: install ..., set ..., run with ..."
		}
	}
	return ""
}

// explained reports whether a skip names the way to run the test after all: in
// its text, or in an argument called how.
func explained(call *ast.CallExpr) bool {
	if len(call.Args) == 0 {
		return false
	}
	if id, ok := call.Args[len(call.Args)-1].(*ast.Ident); ok && id.Name == "how" {
		return true
	}
	lit, ok := call.Args[0].(*ast.BasicLit)
	if !ok {
		return false
	}
	text, err := strconv.Unquote(lit.Value)
	return err == nil && skipHint.MatchString(text)
}

var skipHint = regexp.MustCompile(`(?i)\b(install|set|runs?|pass|use|needs|without|again)\b|-short\b`)

// inFuzz reports whether a call is within a fuzz target or a property of
// rapid, where a skip means an input that says nothing.
func inFuzz(f goFile, call *ast.CallExpr) bool {
	found := false
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if n == nil || n.Pos() > call.Pos() || call.Pos() >= n.End() {
			return false
		}
		switch n := n.(type) {
		case *ast.FuncDecl:
			found = found || strings.HasPrefix(n.Name.Name, "Fuzz") || takesRapid(n.Type)
		case *ast.FuncLit:
			found = found || takesRapid(n.Type)
		}
		return true
	})
	return found
}

func takesRapid(fn *ast.FuncType) bool {
	return slices.ContainsFunc(fn.Params.List, func(p *ast.Field) bool {
		star, ok := p.Type.(*ast.StarExpr)
		if !ok {
			return false
		}
		sel, ok := star.X.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		x, ok := sel.X.(*ast.Ident)
		return ok && x.Name == "rapid" && sel.Sel.Name == "T"
	})
}

// TestText looks at every text file: no unfinished work without an issue, and
// no path of the machine it was written on.
func TestText(t *testing.T) {
	walk(t, func(rel string, src []byte) {
		if bytes.IndexByte(src, 0) >= 0 || !suspicious(src) {
			return // no text, or none of the words
		}
		for i, line := range bytes.Split(src, []byte("\n")) {
			if why := badText(string(line)); why != "" {
				t.Errorf("%s:%d: %s", rel, i+1, why)
			}
		}
	})
}

// suspicious spares most files the search by line.
func suspicious(src []byte) bool {
	words := []string{"TO" + "DO", "FIX" + "ME", "X" + "XX", "/wo" + "rk/", "/ro" + "ot/", "/tm" + "p/", "/ho" + "me/"}
	return slices.ContainsFunc(words, func(w string) bool { return bytes.Contains(src, []byte(w)) })
}

var (
	unfinished  = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`)
	withIssue   = regexp.MustCompile(`\(#\d+\)`)
	machinePath = regexp.MustCompile(`(^|[\s"'=(:\x60])/(wo` + `rk|ro` + `ot|tm` + `p|ho` + `me)/`)
)

// badText says what is wrong with a line, "" when nothing is.
func badText(line string) string {
	if unfinished.MatchString(line) && !withIssue.MatchString(line) {
		return "unfinished work needs an issue: (#123)"
	}
	if machinePath.MatchString(line) {
		return "a path of one machine: use a relative one, or one that any reader has"
	}
	return ""
}

// TestBadText tests the search itself.
func TestBadText(t *testing.T) {
	for _, c := range []struct {
		line string
		bad  bool
	}{
		{"// TO" + "DO: later", true},
		{"// TO" + "DO(#12): later", false},
		{"see /tm" + "p/x", true},
		{"cd \"/ro" + "ot/x\"", true},
		{"/var/lib/farhop/farhop.yaml", false},
		{"network/tm" + "p/x", false},
	} {
		if got := badText(c.line) != ""; got != c.bad {
			t.Errorf("%q: bad %v, want %v", c.line, got, c.bad)
		}
	}
}

// TestLinks follows the relative links of all documents.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	walk(t, func(rel string, src []byte) {
		if !strings.HasSuffix(rel, ".md") {
			return
		}
		for _, m := range link.FindAllSubmatch(src, -1) {
			target, _, _ := strings.Cut(string(m[1]), "#")
			if target == "" || strings.Contains(target, ":") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root(t), path.Dir(rel), target)); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", rel, target)
			}
		}
	})
}
