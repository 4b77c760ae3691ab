package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/routing/policy"
)

const (
	maxAnswer = 64 << 10 // bytes of a response
	maxCAFile = 1 << 20  // bytes
)

// callback asks an HTTP server about a client.
type callback struct {
	cfg    HTTP
	client *http.Client
	turn   chan struct{} // questions under way
	now    func() time.Time
	log    *slog.Logger
	count  *prometheus.CounterVec // result
	cache  *cache
}

// question is the body of the request.
type question struct {
	Client         string   `json:"client"`
	User           string   `json:"user,omitempty"`
	Password       string   `json:"password,omitempty"`
	PasswordBase64 []byte   `json:"password_base64,omitempty"` // in place of Password, if that is no UTF-8
	Remote         string   `json:"remote,omitempty"`
	Transport      string   `json:"transport,omitempty"`
	Names          []string `json:"names,omitempty"`

	// Of an enhanced authentication only.
	Exchange string `json:"exchange,omitempty"`
	Round    int    `json:"round,omitempty"`
	Again    bool   `json:"again,omitempty"`
	Method   string `json:"method,omitempty"`
	Data     []byte `json:"data,omitempty"` // base64
	State    string `json:"state,omitempty"`
}

// ask begins a question.
func ask(c Client) question {
	q := question{Client: c.ID, User: c.User, Remote: c.Remote, Transport: c.Transport, Names: c.Names}
	if utf8.Valid(c.Password) {
		q.Password = string(c.Password)
	} else {
		q.PasswordBase64 = c.Password
	}
	return q
}

// answer is the body of the response, as it is kept.
type answer struct {
	result     string // allow, deny, ignore, and for a round continue
	user       string // "": the one the client gave
	attributes map[string]string
	rules      *policy.Access
	data       []byte // of a round only, as is state
	state      string
}

func newCallback(cfg HTTP, d Deps, count *prometheus.CounterVec) (*callback, error) {
	cfg = cfg.withDefaults()
	t := &http.Transport{ // no proxy from the environment: it would read passwords
		MaxIdleConnsPerHost: cfg.MaxInFlight, MaxConnsPerHost: cfg.MaxInFlight,
		IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxAnswer, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if cfg.CA != "" {
		_, pem, err := readFile(cfg.CA, maxCAFile)
		if err != nil {
			return nil, err
		}
		if t.TLSClientConfig.RootCAs = x509.NewCertPool(); !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate in it; write the PEM of who signed the server's", cfg.CA)
		}
	}
	cache, err := newCache(cfg.CacheEntries)
	if err != nil {
		return nil, err
	}
	return &callback{
		cfg: cfg, turn: make(chan struct{}, cfg.MaxInFlight), now: d.Now, log: d.Log, count: count, cache: cache,
		client: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// Authenticate implements Authenticator.
func (b *callback) Authenticate(ctx context.Context, c Client) (*Identity, error) {
	a, err := b.ask(ctx, c)
	if err != nil {
		b.failed(ctx, err)
		if b.cfg.Unreachable == Ignore {
			return nil, ErrUnknown
		}
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	switch a.result {
	case "allow":
		if a.user == "" {
			a.user = c.User
		}
		id := identity(c, a.user)
		id.Attributes, id.Rules = a.attributes, a.rules
		return id, nil
	case "deny":
		return nil, fmt.Errorf("%w: by %s", ErrRefused, b.cfg.URL)
	}
	return nil, ErrUnknown
}

// failed tells of a question without an answer.
func (b *callback) failed(ctx context.Context, err error) {
	b.count.WithLabelValues("failed").Inc()
	if ctx.Err() == nil { // else the client went: that says nothing about the server
		b.log.Warn("the authentication server gave no answer", "url", b.cfg.URL, "error", err, "then", b.cfg.Unreachable)
	}
}

// enter waits until there is room for one more question; leave follows it.
func (b *callback) enter(ctx context.Context) (leave func(), err error) {
	select {
	case b.turn <- struct{}{}:
		return func() { <-b.turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%d questions are under way: %w", b.cfg.MaxInFlight, context.Cause(ctx))
	}
}

// ask returns what is remembered, or asks when it is its turn.
func (b *callback) ask(ctx context.Context, c Client) (answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(b.cfg.Timeout), fmt.Errorf("no answer within %s", b.cfg.Timeout))
	defer cancel()
	sum := b.cache.sum(c)
	if a, ok := b.cache.get(sum, b.now()); ok {
		b.count.WithLabelValues("cached").Inc()
		return a, nil
	}
	leave, err := b.enter(ctx)
	if err != nil {
		return answer{}, err
	}
	defer leave()
	if a, ok := b.cache.get(sum, b.now()); ok { // asked meanwhile
		b.count.WithLabelValues("cached").Inc()
		return a, nil
	}
	a, err := b.post(ctx, ask(c))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return answer{}, err
	}
	b.count.WithLabelValues("answered").Inc()
	b.cache.put(sum, a, b.now().Add(time.Duration(b.cfg.Cache)))
	return a, nil
}

func (b *callback) post(ctx context.Context, q question) (answer, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := b.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return answer{}, err
	case resp.StatusCode != http.StatusOK:
		return answer{}, fmt.Errorf("status %s; answer 200 with a JSON object whose result is allow, deny or ignore", resp.Status)
	case len(data) > maxAnswer:
		return answer{}, fmt.Errorf("answer of more than %d bytes", maxAnswer)
	}
	return parseAnswer(data, q.Method != "")
}

// parseAnswer reads a response, to a round of an exchange if enhanced.
func parseAnswer(data []byte, enhanced bool) (answer, error) {
	var r struct {
		Result     string          `json:"result"`
		User       string          `json:"user"`
		Attributes json.RawMessage `json:"attributes"`
		ACL        json.RawMessage `json:"acl"`
		Data       []byte          `json:"data"`
		State      string          `json:"state"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return answer{}, fmt.Errorf("answer is not the JSON that is wanted: %w", err)
	}
	a := answer{result: r.Result, user: r.User, data: r.Data, state: r.State}
	err := a.check(enhanced)
	if err != nil {
		return answer{}, err
	}
	if a.attributes, err = parseAttributes(r.Attributes); err != nil {
		return answer{}, fmt.Errorf("attributes: %w", err)
	}
	if a.rules, err = parseGrants(r.ACL); err != nil {
		return answer{}, fmt.Errorf("acl: %w", err)
	}
	return a, nil
}

// cache remembers answers. Its keys are HMACs: no password stays in memory.
type cache struct {
	key  [32]byte
	most int

	mu      sync.Mutex
	entries map[[32]byte]cached // guarded by mu
	oldest  [][32]byte          // keys in the order they came, guarded by mu
}

type cached struct {
	answer
	until time.Time
}

func newCache(most int) (*cache, error) {
	c := &cache{most: most, entries: make(map[[32]byte]cached)}
	if _, err := rand.Read(c.key[:]); err != nil {
		return nil, fmt.Errorf("key for remembered answers: %w", err)
	}
	return c, nil
}

// sum names all that a server's answer may depend on, but for the port, which
// is another one for each connection.
func (c *cache) sum(cl Client) [32]byte {
	host, _, err := net.SplitHostPort(cl.Remote)
	if err != nil {
		host = cl.Remote
	}
	mac := hmac.New(sha256.New, c.key[:])
	for _, s := range append([]string{cl.ID, cl.User, fmt.Sprint(cl.HasUser), string(cl.Password), host, cl.Transport}, cl.Names...) {
		fmt.Fprintf(mac, "%d:%s", len(s), s)
	}
	return [32]byte(mac.Sum(nil))
}

func (c *cache) get(sum [32]byte, now time.Time) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[sum]
	return e.answer, ok && now.Before(e.until)
}

// put remembers an answer in place of the oldest one if there is no room. All
// live equally long, so the oldest is the first to end.
func (c *cache) put(sum [32]byte, a answer, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most == 0 {
		return
	}
	if _, have := c.entries[sum]; !have {
		if len(c.oldest) >= c.most {
			delete(c.entries, c.oldest[0])
			c.oldest = c.oldest[1:]
		}
		c.oldest = append(c.oldest, sum)
	}
	c.entries[sum] = cached{a, until}
}
