package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/config"
)

// docSection is the part of docs/api.md about one endpoint.
type docSection struct{ method, path, text string }

// readDocs returns docs/api.md, whole and by the endpoints of its headings.
func readDocs(t *testing.T) (whole string, sections []docSection) {
	t.Helper()
	data, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	whole = string(data)
	for part := range strings.SplitSeq(whole, "\n##") {
		heading, text, _ := strings.Cut(part, "\n")
		heading = strings.TrimLeft(heading, "# ")
		if method, path, ok := strings.Cut(heading, " "); ok && strings.HasPrefix(path, "/") {
			sections = append(sections, docSection{method, path, text})
		}
	}
	return whole, sections
}

// blocks returns the fenced blocks of a language.
func blocks(text, lang string) (out []string) {
	for _, m := range regexp.MustCompile("(?s)```"+lang+"\n(.*?)```").FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

// The table of docs/api.md is the route table, line by line.
func TestDocsListTheRoutes(t *testing.T) {
	whole, _ := readDocs(t)
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (GET|POST|PUT|PATCH|DELETE) \|.*$`).FindAllString(whole, -1) {
		listed[row] = true
	}
	for _, r := range routes() {
		who, limit := "token", "none"
		if r.open {
			who = "open"
		}
		if r.limit != noBody {
			limit = fmt.Sprint(r.limit)
		}
		row := fmt.Sprintf("| %s | `%s` | %s | %s | %s |", r.method, strings.TrimSuffix(r.path, "{$}"), who, limit, r.about)
		if !listed[row] {
			t.Errorf("docs/api.md lacks the line\n%s", row)
		}
		delete(listed, row)
	}
	for row := range listed {
		t.Errorf("docs/api.md has an endpoint that is none:\n%s", row)
	}
}

// answered are the types of the answers that docs/api.md shows. Of the
// configuration it shows a part.
func answered() map[string]any {
	return map[string]any{
		"GET /api/v1/status": &Status{}, "GET /api/v1/nodes": &[]Node{}, "GET /api/v1/routes": &[]Route{},
		"GET /api/v1/why/{id}": &Why{}, "GET /api/v1/queues": &Queues{}, "GET /api/v1/config": &config.Delivery{},
		"POST /api/v1/queues/peek": &Peek{}, "POST /api/v1/queues/retry": &Retried{}, "POST /api/v1/queues/purge": &Purged{},
		"POST /api/v1/queues/replay": &Replayed{}, "POST /api/v1/invite": &Invite{},
		"POST /api/v1/sessions": &Sessions{}, "POST /api/v1/sessions/kick": &Kicked{}, "POST /api/v1/sessions/end": &EndedSession{},
		"POST /api/v1/retained": &Retained{}, "POST /api/v1/retained/remove": &RemovedRetained{}, "POST /api/v1/tap": &TapEvent{},
		"POST /api/v1/ping": &PingEvent{}, "POST /api/v1/netcheck": &Netcheck{},
		"POST /api/v1/bundles/export": &ParcelHeader{}, "POST /api/v1/bundles/import": &Imported{}, "POST /api/v1/bundles/release": &HandedOver{},
		"GET /api/v1/fleet": &FleetStatus{}, "POST /api/v1/fleet": &FleetPushed{},
	}
}

// Every endpoint behind the token has a section, whose answer is one that this
// version could give.
func TestDocsShowTheAnswers(t *testing.T) {
	_, sections := readDocs(t)
	types := answered()
	for _, s := range sections {
		name := s.method + " " + s.path
		v, ok := types[name]
		shown := blocks(s.text, "json")
		if !ok || len(shown) != 1 {
			t.Errorf("docs/api.md, %s: %d answers shown, want 1 and its type in answered", name, len(shown))
			continue
		}
		delete(types, name)
		d := json.NewDecoder(strings.NewReader(shown[0]))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			t.Errorf("docs/api.md, %s: the answer shown is not one: %v", name, err)
		}
	}
	for name := range types {
		t.Errorf("docs/api.md has no section %q", name)
	}
	for _, r := range routes() {
		if _, ok := answered()[r.method+" "+r.path]; !ok && !r.open {
			t.Errorf("%s %s has no type in answered", r.method, r.path)
		}
	}
}

// Every request that docs/api.md makes is understood: its keys are known, its
// values can be read, and it is made at the endpoint it stands with.
func TestDocsMakeRequestsThatAreUnderstood(t *testing.T) {
	_, sections := readDocs(t)
	call := regexp.MustCompile(`\bapi (/\S+)(?: -X (\w+))?(?: -d '([^']*)')?`)
	made := 0
	for _, s := range sections {
		first, _, _ := strings.Cut(s.path, "{")
		for i, m := range call.FindAllStringSubmatch(strings.Join(blocks(s.text, "sh"), "\n"), -1) {
			if i == 0 && !strings.HasPrefix(m[1], first) {
				t.Errorf("docs/api.md, %s %s: the example asks %s", s.method, s.path, m[1])
			}
			method, path, body := m[2], m[1], m[3]
			switch {
			case method == "" && body == "" && s.method == http.MethodPost:
				continue // its body comes from a file
			case method == "" && body != "":
				method = http.MethodPost
			case method == "":
				method = http.MethodGet
			}
			made++
			srv, _ := newServer(t)
			if w := ask(srv, method, path, body, nil); w.Code != http.StatusOK {
				t.Errorf("docs/api.md: %s %s %s\nis answered %d %s", method, path, body, w.Code, w.Body)
			}
		}
	}
	if made < len(answered())-3 { // files are the bodies of some
		t.Errorf("only %d requests were found", made)
	}
}

// Every key of a request or an answer stands in docs/api.md as code.
func TestDocsNameEveryKey(t *testing.T) {
	whole, _ := readDocs(t)
	word := regexp.MustCompile(`[a-z][a-z_]*`)
	named := map[string]bool{}
	for _, code := range regexp.MustCompile("(?s)```.*?```|`[^`\n]+`").FindAllString(whole, -1) {
		for _, w := range word.FindAllString(code, -1) {
			named[w] = true
		}
	}
	types := []any{SessionsRequest{}, SessionRequest{}, RetainedRequest{}, TapRequest{}, PeekRequest{}, PurgeRequest{}, ReplayRequest{}, InviteRequest{}, FleetPushRequest{}, PingRequest{}, NetcheckRequest{}, ExportRequest{}, Error{}}
	for _, v := range answered() {
		types = append(types, v)
	}
	for _, v := range types {
		for _, key := range keys(reflect.TypeOf(v)) {
			if !named[key] {
				t.Errorf("docs/api.md does not name the key %q of %T", key, v)
			}
		}
	}
}

// keys lists the JSON keys of a type and of the types of this package in it.
func keys(t reflect.Type) (out []string) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return keys(t.Elem())
	case reflect.Struct:
	default:
		return nil
	}
	if t.PkgPath() != reflect.TypeFor[Status]().PkgPath() {
		return nil // has a text form, or is explained in farhop.yaml
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			out = append(out, name)
		}
		out = append(out, keys(f.Type)...)
	}
	return out
}
