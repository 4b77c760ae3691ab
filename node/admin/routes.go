package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/storeforward/bundle"
)

// route is one line of the route table, from which the mux and the golden file
// of the API are made.
type route struct {
	method  string
	path    string // a pattern of http.ServeMux
	open    bool   // needs no token
	limit   int64  // bytes of the request's body
	about   string
	handler func(*Server, http.ResponseWriter, *http.Request)
}

// Limits of request bodies, in bytes.
const (
	noBody    = 0
	smallBody = 64 << 10
	fleetBody = config.MaxFile/3*4 + smallBody // base64

	// replayBody holds the largest message a node takes, with its payload and
	// correlation data in base64 and its texts escaped.
	replayBody = 16 << 20
)

// routes is the whole API.
func routes() []route {
	return []route{
		{"GET", "/api/v1/status", false, noBody, "the node, its peers, queues and counters", get(status)},
		{"GET", "/api/v1/nodes", false, noBody, "known nodes of the mesh", get(nodes)},
		{"GET", "/api/v1/routes", false, noBody, "rules in force", get(rules)},
		{"GET", "/api/v1/why/{id}", false, noBody, "where a message is and what it waits for", (*Server).why},
		{"GET", "/api/v1/queues", false, noBody, "what waits, for whom and why", get(queues)},
		{"POST", "/api/v1/queues/peek", false, smallBody, "the messages at the front of a queue", post(peek)},
		{"POST", "/api/v1/queues/retry", false, noBody, "end every rest now", get(Backend.Retry)},
		{"POST", "/api/v1/queues/purge", false, smallBody, "end messages", post(Backend.Purge)},
		{"POST", "/api/v1/queues/replay", false, replayBody, "submit exported messages again", post(Backend.Replay)},
		{"POST", "/api/v1/sessions", false, smallBody, "MQTT sessions", post(sessions)},
		{"POST", "/api/v1/sessions/kick", false, smallBody, "end a connection", post(Backend.KickSession)},
		{"POST", "/api/v1/sessions/end", false, smallBody, "end a session and its queue", post(Backend.EndSession)},
		{"POST", "/api/v1/retained", false, smallBody, "retained messages", post(retained)},
		{"POST", "/api/v1/retained/remove", false, smallBody, "delete retained messages everywhere", post(Backend.RemoveRetained)},
		{"POST", "/api/v1/tap", false, smallBody, "what happens to messages, as it happens", (*Server).tap},
		{"POST", "/api/v1/ping", false, smallBody, "round trips to a node of the mesh, as they come", (*Server).ping},
		{"POST", "/api/v1/netcheck", false, smallBody, "what passes to the peers: UDP, TCP, MTU, ECN, NAT, clocks", (*Server).netcheck},
		{"POST", "/api/v1/bundles/export", false, smallBody, "bundles that wait for other nodes, as a file", (*Server).exportBundles},
		{"POST", "/api/v1/bundles/import", false, parcelBody, "take such a file into custody", takeFile(Backend.ImportBundles)},
		{"POST", "/api/v1/bundles/release", false, parcelBody, "end custody of what a receipt, or an own file, holds", takeFile(Backend.ReleaseBundles)},
		{"POST", "/api/v1/invite", false, smallBody, "make a ticket", post(Backend.Invite)},
		{"GET", "/api/v1/fleet", false, noBody, "progress of the newest revision", get(fleetStatus)},
		{"POST", "/api/v1/fleet", false, fleetBody, "sign and send resources", post(Backend.FleetPush)},
		{"GET", "/api/v1/config", false, noBody, "configuration in force", get(Backend.Config)},
		{"GET", "/metrics", true, noBody, "metrics for Prometheus", (*Server).metrics},
		{"GET", "/healthz", true, noBody, "200 while the node works", health(Backend.Healthy)},
		{"GET", "/readyz", true, noBody, "200 once the node takes messages", health(Backend.Ready)},
		{"GET", "/{$}", true, noBody, "the status page", page("index.html", "text/html; charset=utf-8")},
		{"GET", "/page.css", true, noBody, "its style", page("page.css", "text/css; charset=utf-8")},
		{"GET", "/page.js", true, noBody, "its script", page("page.js", "text/javascript; charset=utf-8")},
	}
}

// mux serves the route table. Other methods of its paths are answered 405,
// other paths 404, both as JSON.
func (s *Server) mux() http.Handler {
	mux := http.NewServeMux()
	allowed := map[string]string{}
	for _, r := range routes() {
		mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) { s.serve(r, w, req) })
		if allowed[r.path] != "" {
			allowed[r.path] += ", "
		}
		allowed[r.path] += r.method
	}
	for path, methods := range allowed {
		mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Allow", methods)
			s.fail(w, req, &Error{Code: http.StatusMethodNotAllowed, What: req.URL.Path + " does not take " + req.Method, Hint: "use " + methods})
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		s.fail(w, req, &Error{Code: http.StatusNotFound, What: "there is no " + req.URL.Path, Hint: "the API is below /api/v1/"})
	})
	return mux
}

// serve is the way of every request: who asks, how much, then the handler.
func (s *Server) serve(r route, w http.ResponseWriter, req *http.Request) {
	if !r.open {
		if err := s.authorized(req); err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer realm="farhop"`)
			s.fail(w, req, err)
			return
		}
	}
	req.Body = http.MaxBytesReader(w, req.Body, r.limit)
	r.handler(s, w, req)
}

func get[T any](ask func(Backend, context.Context) (T, error)) func(*Server, http.ResponseWriter, *http.Request) {
	return func(s *Server, w http.ResponseWriter, req *http.Request) {
		v, err := ask(s.cfg.Backend, req.Context())
		s.answer(w, req, v, err)
	}
}

func post[In, Out any](ask func(Backend, context.Context, In) (Out, error)) func(*Server, http.ResponseWriter, *http.Request) {
	return func(s *Server, w http.ResponseWriter, req *http.Request) {
		in, err := decode[In](req)
		if err != nil {
			s.fail(w, req, err)
			return
		}
		out, err := ask(s.cfg.Backend, req.Context(), in)
		s.answer(w, req, out, err)
	}
}

func (s *Server) why(w http.ResponseWriter, req *http.Request) {
	id, err := bundle.ParseID(req.PathValue("id"))
	if err != nil {
		s.fail(w, req, Invalid("copy it from the output of farhop pub, or from the farhop-id property of the PUBACK", "%v", err))
		return
	}
	out, err := s.cfg.Backend.Why(req.Context(), id)
	out.Places = listed(out.Places)
	s.answer(w, req, out, err)
}

func (s *Server) metrics(w http.ResponseWriter, req *http.Request) { s.prom.ServeHTTP(w, req) }

func health(ask func(Backend) error) func(*Server, http.ResponseWriter, *http.Request) {
	return func(s *Server, w http.ResponseWriter, req *http.Request) {
		if err := ask(s.cfg.Backend); err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Code == 0 {
				e = &Error{Code: http.StatusServiceUnavailable, What: err.Error(), Hint: "see farhop status and the log"}
			}
			s.fail(w, req, e)
			return
		}
		s.answer(w, req, map[string]bool{"ok": true}, nil)
	}
}
