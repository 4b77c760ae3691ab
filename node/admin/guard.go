package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// guard lets only requests through that were meant for this server. A page of
// another site can make a browser on this machine send requests here: by its
// own name resolving to loopback (Host is then not ours), or across origins
// (Origin is then not ours). Both are refused before anything is looked at.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		if !s.hostAllowed(req.Host) {
			s.fail(w, req, &Error{Code: http.StatusForbidden, What: "the Host header names another server", Hint: "use the address in admin.listen, or localhost"})
			return
		}
		if !originAllowed(req) {
			s.fail(w, req, &Error{Code: http.StatusForbidden, What: "the request comes from a page of another site", Hint: "only the page of this server may use the API from a browser"})
			return
		}
		next.ServeHTTP(w, req)
	})
}

// hostAllowed accepts loopback, localhost, the configured host and, when all
// addresses of the machine are listened on, every literal address: only a name
// can be made to resolve here by somebody else.
func (s *Server) hostAllowed(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	configured, _, _ := net.SplitHostPort(s.cfg.Listen)
	if host == "localhost" || host != "" && host == strings.ToLower(configured) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	all, err := netip.ParseAddr(configured)
	return ip.Unmap().IsLoopback() || configured == "" || err == nil && all.IsUnspecified()
}

// originAllowed accepts requests without an Origin, which programs send, and
// those of the page that this very server gave out.
func originAllowed(req *http.Request) bool {
	values := req.Header.Values("Origin")
	if len(values) == 0 {
		return true
	}
	u, err := url.Parse(values[0])
	return err == nil && len(values) == 1 && (u.Scheme == "http" || u.Scheme == "https") && strings.EqualFold(u.Host, req.Host)
}

// authorized checks the bearer token (RFC 6750, section 2.1).
func (s *Server) authorized(req *http.Request) error {
	scheme, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	want, got := sha256.Sum256([]byte(s.token)), sha256.Sum256([]byte(token))
	if strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(want[:], got[:]) == 1 {
		return nil
	}
	what := "the token is wrong"
	if scheme == "" {
		what = "a token is needed"
	}
	return &Error{Code: http.StatusUnauthorized, What: what, Hint: "send Authorization: Bearer with the content of " + TokenFile + " in the node's data directory"}
}
