package emulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/farhop/farhop/sim/emulator/desc"
)

// Limits of the API.
const (
	maxBody   = 64 << 10
	maxHeader = 16 << 10
	// apiPatience is how long a client may take to send a request, and its
	// answer to be sent. The API is for this machine; no emulated link is between.
	apiPatience = 10 * time.Second
)

// Control is the HTTP API of an open link; docs/emulator.md has its paths. It
// serves programs of this machine: it refuses requests that a web page could
// have made.
type Control struct {
	link  *Link
	files desc.Files

	mu   sync.Mutex // changes come one by one
	desc desc.Link  // guarded by mu
}

// NewControl returns the API of l, which was opened as d says. files reads what
// a change names, such as a trace; nil refuses.
func NewControl(l *Link, d desc.Link, files desc.Files) *Control {
	return &Control{link: l, desc: d, files: files}
}

// Status is what the API answers.
type Status struct {
	Addr  string    `json:"addr"` // where clients find the link
	Link  desc.Link `json:"link"` // with the keys of a file
	Stats Stats     `json:"stats"`
}

// refusal is an answer that says what is wrong.
type refusal struct {
	code  int
	Error string  `json:"error"`
	Key   string  `json:"key,omitempty"`    // the first that is wrong
	All   []wrong `json:"faults,omitempty"` // each
}

// wrong is what is wrong with one key.
type wrong struct {
	Key   string `json:"key"`
	Error string `json:"error"`
}

// Serve answers on ln until ctx ends, and closes ln.
func (c *Control) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler: c, ReadTimeout: apiPatience, WriteTimeout: apiPatience, IdleTimeout: apiPatience, MaxHeaderBytes: maxHeader,
	}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("link API at %s: %w", ln.Addr(), err)
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (c *Control) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	answer, no := any(nil), c.guard(req)
	if no == nil {
		answer, no = c.serve(w, req)
	}
	code := http.StatusOK
	if no != nil {
		code, answer = no.code, no
		if code == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", strings.Join(methods(req.URL.Path), ", "))
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(answer) // a client that has gone needs no answer
}

// guard refuses what a web page could send: requests with an Origin, and those
// to a name, which may be the page's own that resolves to this machine.
func (c *Control) guard(req *http.Request) *refusal {
	host := req.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil && host != "localhost" {
		return &refusal{code: http.StatusForbidden, Error: "the Host header is a name; use the IP address of the API, or localhost"}
	}
	if req.Header.Get("Origin") != "" {
		return &refusal{code: http.StatusForbidden, Error: "requests from web pages are refused"}
	}
	return nil
}

const root = "/v1/link"

// actionOf is what a path does, "" for none.
func actionOf(path string) desc.Action {
	name, ok := strings.CutPrefix(path, root+"/")
	switch a := desc.Action(name); {
	case !ok:
	case a == desc.Cut, a == desc.Heal, a == desc.Rebind, a == desc.HalfOpen, a == desc.Blackhole:
		return a
	}
	return ""
}

// methods lists what a path answers to.
func methods(path string) []string {
	switch {
	case path == root:
		return []string{http.MethodGet, http.MethodPatch}
	case actionOf(path) != "":
		return []string{http.MethodPost}
	}
	return nil
}

func (c *Control) serve(w http.ResponseWriter, req *http.Request) (any, *refusal) {
	may := methods(req.URL.Path)
	if may == nil {
		return nil, &refusal{code: http.StatusNotFound, Error: "there is GET and PATCH " + root + ", and POST " + root + "/cut, heal, rebind, half-open and blackhole"}
	}
	if !slices.Contains(may, req.Method) {
		return nil, &refusal{code: http.StatusMethodNotAllowed, Error: "use " + strings.Join(may, " or ")}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var no *refusal
	if action := actionOf(req.URL.Path); action != "" {
		no = c.act(action, req)
	} else if req.Method == http.MethodPatch {
		no = c.patch(w, req)
	} else {
		no = noQuery(req)
	}
	if no != nil {
		return nil, no
	}
	return Status{Addr: c.link.Addr().String(), Link: c.desc, Stats: c.link.Stats()}, nil
}

// act does one action. The caller holds mu.
func (c *Control) act(action desc.Action, req *http.Request) *refusal {
	step := desc.Step{Do: action}
	if action == desc.HalfOpen {
		query := req.URL.Query()
		var err error
		if step.Direction, err = desc.ParseDirection(query.Get("direction")); err != nil || len(query) != 1 {
			return &refusal{code: http.StatusBadRequest, Key: "direction", Error: "direction: say which one is cut: ?direction=up or ?direction=down, and nothing else"}
		}
	} else if no := noQuery(req); no != nil {
		return no
	}
	if err := c.link.Do(step); err != nil {
		return &refusal{code: http.StatusInternalServerError, Error: err.Error()}
	}
	return nil
}

func noQuery(req *http.Request) *refusal {
	for key := range req.URL.Query() {
		return &refusal{code: http.StatusBadRequest, Key: key, Error: fmt.Sprintf("%.80q: this path has no parameters", key)}
	}
	return nil
}

// patch changes the link, all of it or nothing. The caller holds mu.
func (c *Control) patch(w http.ResponseWriter, req *http.Request) *refusal {
	if no := noQuery(req); no != nil {
		return no
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return &refusal{code: http.StatusRequestEntityTooLarge, Error: fmt.Sprintf("the body has more than %d bytes", maxBody)}
	}
	if err != nil {
		return &refusal{code: http.StatusBadRequest, Error: fmt.Sprintf("read body: %v", err)}
	}
	changed, no := patched(c.desc, body, c.files)
	if no != nil {
		return no
	}
	if err := c.link.SetProfile(changed.Up, changed.Down); err != nil {
		return &refusal{code: http.StatusBadRequest, Error: err.Error()}
	}
	c.link.SetRebindEvery(changed.RebindEvery)
	c.desc = changed
	return nil
}

// patched returns d as a body changes it.
func patched(d desc.Link, body []byte, files desc.Files) (desc.Link, *refusal) {
	var plain bytes.Buffer // without tabs, which JSON allows and YAML does not
	if err := json.Compact(&plain, body); err != nil {
		return d, &refusal{code: http.StatusBadRequest, Error: `the body is not JSON; send for example {"delay": "1.28s", "return": {"rate": "256kbit"}}`}
	}
	changed, err := d.Patch(plain.Bytes(), files)
	if err == nil {
		return changed, nil
	}
	no := &refusal{code: http.StatusBadRequest, Error: err.Error()}
	for _, e := range unjoin(err) {
		if f := (*desc.Fault)(nil); errors.As(e, &f) {
			no.All = append(no.All, wrong{f.Key, f.Err.Error()})
		}
	}
	if len(no.All) > 0 {
		no.Key = no.All[0].Key
	}
	return d, no
}

// unjoin lists the errors of errors.Join.
func unjoin(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return []error{err}
}
