package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/storeforward/bundle"
)

// NotRunning is the error when no daemon answers for a data directory.
type NotRunning struct{ Dir, Addr string }

// Error implements error.
func (e *NotRunning) Error() string { return e.What() + ": start it with: " + e.Next() }

// What says what is wrong, without the next step.
func (e *NotRunning) What() string {
	return fmt.Sprintf("no farhop runs in %s (address %s)", e.Dir, e.Addr)
}

// Next is the command that starts the daemon.
func (e *NotRunning) Next() string { return "farhop run --dir " + e.Dir }

// maxAnswer bounds an answer that is read, in bytes. A mesh of 10,000 nodes
// with full lists of filters stays below it.
const maxAnswer = 256 << 20

// Client speaks to the daemon of one data directory.
type Client struct {
	dir   string
	addr  string // host:port
	token string
	http  *http.Client
}

// Dial prepares a client from dir/farhop.yaml and dir/admin.token. It does not
// connect yet. Errors: those of config.Load, *NotRunning when no daemon ever
// ran there.
func Dial(dir string) (*Client, error) {
	c, err := config.Load(filepath.Join(dir, config.FileName))
	if err != nil {
		return nil, err
	}
	cl := &Client{dir: dir, addr: target(dir, c.Admin.Listen), http: &http.Client{
		// A proxy of the environment must never see the token.
		Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	cl.token, err = readToken(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cl.notRunning()
	}
	if err != nil {
		return nil, fmt.Errorf("admin token: %w", err)
	}
	return cl, nil
}

// target is where a client on this machine reaches the API: where the daemon
// that was started last listened, which flags may have changed.
func target(dir string, listen config.HostPort) string {
	if data, err := os.ReadFile(filepath.Join(dir, AddrFile)); err == nil {
		var h config.HostPort
		if h.UnmarshalText(bytes.TrimSpace(data)) == nil && h.Port() != 0 {
			listen = h
		}
	}
	host, port, _ := net.SplitHostPort(string(listen))
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}

func (c *Client) notRunning() error { return &NotRunning{Dir: c.dir, Addr: c.addr} }

// URL is the address of the status page, token included.
func (c *Client) URL() string { return "http://" + c.addr + "/#token=" + c.token }

// Status asks for a picture of the node.
func (c *Client) Status(ctx context.Context) (out Status, err error) {
	err = c.call(ctx, "GET", "/api/v1/status", nil, &out)
	return out, err
}

// Nodes asks for the known nodes of the mesh.
func (c *Client) Nodes(ctx context.Context) (out []Node, err error) {
	err = c.call(ctx, "GET", "/api/v1/nodes", nil, &out)
	return out, err
}

// Routes asks for the rules in force.
func (c *Client) Routes(ctx context.Context) (out []Route, err error) {
	err = c.call(ctx, "GET", "/api/v1/routes", nil, &out)
	return out, err
}

// Why asks where a message is.
func (c *Client) Why(ctx context.Context, id bundle.ID) (out Why, err error) {
	err = c.call(ctx, "GET", "/api/v1/why/"+url.PathEscape(id.String()), nil, &out)
	return out, err
}

// Queues asks what waits.
func (c *Client) Queues(ctx context.Context) (out Queues, err error) {
	err = c.call(ctx, "GET", "/api/v1/queues", nil, &out)
	return out, err
}

// Peek asks for the messages at the front of a queue.
func (c *Client) Peek(ctx context.Context, r PeekRequest) (out Peek, err error) {
	err = c.call(ctx, "POST", "/api/v1/queues/peek", r, &out)
	return out, err
}

// Retry ends every rest now.
func (c *Client) Retry(ctx context.Context) (out Retried, err error) {
	err = c.call(ctx, "POST", "/api/v1/queues/retry", nil, &out)
	return out, err
}

// Purge ends messages.
func (c *Client) Purge(ctx context.Context, r PurgeRequest) (out Purged, err error) {
	err = c.call(ctx, "POST", "/api/v1/queues/purge", r, &out)
	return out, err
}

// Replay submits messages again.
func (c *Client) Replay(ctx context.Context, r ReplayRequest) (out Replayed, err error) {
	err = c.call(ctx, "POST", "/api/v1/queues/replay", r, &out)
	return out, err
}

// Sessions asks for MQTT sessions.
func (c *Client) Sessions(ctx context.Context, r SessionsRequest) (out Sessions, err error) {
	err = c.call(ctx, "POST", "/api/v1/sessions", r, &out)
	return out, err
}

// KickSession ends the connection of a client.
func (c *Client) KickSession(ctx context.Context, r SessionRequest) (out Kicked, err error) {
	err = c.call(ctx, "POST", "/api/v1/sessions/kick", r, &out)
	return out, err
}

// EndSession ends a session.
func (c *Client) EndSession(ctx context.Context, r SessionRequest) (out EndedSession, err error) {
	err = c.call(ctx, "POST", "/api/v1/sessions/end", r, &out)
	return out, err
}

// Retained asks for retained messages.
func (c *Client) Retained(ctx context.Context, r RetainedRequest) (out Retained, err error) {
	err = c.call(ctx, "POST", "/api/v1/retained", r, &out)
	return out, err
}

// RemoveRetained deletes retained messages.
func (c *Client) RemoveRetained(ctx context.Context, r RetainedRequest) (out RemovedRetained, err error) {
	err = c.call(ctx, "POST", "/api/v1/retained/remove", r, &out)
	return out, err
}

// Invite asks for a ticket.
func (c *Client) Invite(ctx context.Context, r InviteRequest) (out Invite, err error) {
	err = c.call(ctx, "POST", "/api/v1/invite", r, &out)
	return out, err
}

// FleetPush sends resources to be signed and sent on.
func (c *Client) FleetPush(ctx context.Context, r FleetPushRequest) (out FleetPushed, err error) {
	err = c.call(ctx, "POST", "/api/v1/fleet", r, &out)
	return out, err
}

// FleetStatus asks how far the newest revision has come.
func (c *Client) FleetStatus(ctx context.Context) (out FleetStatus, err error) {
	err = c.call(ctx, "GET", "/api/v1/fleet", nil, &out)
	return out, err
}

// Config asks for the configuration in force.
func (c *Client) Config(ctx context.Context) (out config.Config, err error) {
	err = c.call(ctx, "GET", "/api/v1/config", nil, &out)
	return out, err
}

// Tap calls f with what happens to messages until ctx ends, f fails or the
// daemon ends it, which is no error.
func (c *Client) Tap(ctx context.Context, r TapRequest, f func(TapEvent) error) error {
	return follow(ctx, c, "/api/v1/tap", r, f)
}

// follow calls f with the events of an answer that is a stream.
func follow[Event any](ctx context.Context, c *Client, path string, in any, f func(Event) error) error {
	resp, err := c.ask(ctx, "POST", path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.read(resp, nil)
	}
	for d := json.NewDecoder(resp.Body); ; {
		var e Event
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("read the answer of %s: %w", c.addr, err)
		}
		if err := f(e); err != nil {
			return err
		}
	}
}

// call makes one request. Errors: *NotRunning, *Error with the server's words.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.ask(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.read(resp, out)
}

// ask sends a request. The caller closes the body of the answer.
func (c *Client) ask(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	kind := ""
	if in != nil {
		kind = "application/json"
	}
	return c.send(ctx, method, path, kind, body)
}

// send is ask with a body of any kind, "" for none.
func (c *Client) send(ctx context.Context, method, path, kind string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.addr+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := c.http.Do(req)
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" && ctx.Err() == nil {
		return nil, c.notRunning()
	}
	if err != nil {
		return nil, fmt.Errorf("ask the daemon at %s: %w", c.addr, err)
	}
	return resp, nil
}

func (c *Client) read(resp *http.Response, out any) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.addr, err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(data, out); err != nil {
			return fmt.Errorf("read the answer of %s: %w", c.addr, err)
		}
		return nil
	}
	e := &Error{Code: resp.StatusCode}
	if err := json.Unmarshal(data, e); err != nil || e.What == "" {
		return fmt.Errorf("%s answered %s, which is no answer of farhop; admin.listen may name the port of another program", c.addr, resp.Status)
	}
	return e
}
