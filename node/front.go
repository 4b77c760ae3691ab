package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/broker/auth"
	"github.com/farhop/farhop/broker/bridge"
	"github.com/farhop/farhop/broker/listen"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/policy"
)

// front is the side of the node that MQTT clients see: who may come in, where,
// and what the broker shares with others of its kind.
type front struct {
	auth    *auth.Auth // nil: everybody comes in
	bridges []*bridge.Bridge
}

// mqttKeyFile holds the key by which QUIC clients notice a restart at once.
const mqttKeyFile = "mqtt-quic.key"

// buildBroker makes the broker, what guards it, and its bridges.
func (n *Node) buildBroker() error {
	m := n.cfg.MQTT
	c := broker.Config{
		Listen: string(m.Listen), Anonymous: m.Anonymous,
		Window: cmp.Or(m.Limits.Window, config.DefaultWindow), LiveWindow: cmp.Or(m.Limits.Window, config.DefaultLiveWindow), MaxPacket: int(m.MaxPacket), MaxClients: m.MaxClients, ServerKeepAlive: uint16(m.ServerKeepAlive / config.Duration(time.Second)),
		SysInterval: time.Duration(m.SysInterval), Version: n.opt.Version, Sys: n.sysValues,
		// The core bounds them, without what a copy in memory costs beside its texts.
		MaxRetained: n.cfg.Store.MaxRetained, MaxRetainedBytes: int(min(int64(n.cfg.Store.MaxRetainedBytes)+broker.MessageOverhead*int64(n.cfg.Store.MaxRetained), math.MaxInt)),
		Retained:          n.kept,
		ListenInstruction: "mqtt.listen in " + config.FileName, Log: n.log, Registerer: n.registry,
	}
	limit(&c, m.Limits)
	if o := n.opt.Standalone; o != nil {
		c.ListenInstruction = "--mqtt HOST:PORT"
	}
	own := household{secret: rand.Text()}
	if guarded(m) {
		var err error
		if n.front.auth, err = auth.New(authConfig(n.cfg), auth.Deps{Log: n.log, Registerer: n.registry}); err != nil {
			return fmt.Errorf("mqtt: %w", err)
		}
		if own.next = n.front.auth.Chain; m.Auth.ACL != "" || len(m.Auth.Access) > 0 {
			if own.all, err = everything(); err != nil {
				return err
			}
		}
		c.Auth, c.Enhanced, c.Rules = own, n.front.auth.Enhanced, n.front.auth.Rules
	}
	var err error
	if c.Listeners, err = n.listeners(); err != nil {
		return err
	}
	if n.broker, err = broker.New(c, n.mqtt); err != nil {
		return err
	}
	n.mqtt.broker, n.mqtt.maxSessions = n.broker, cmp.Or(m.Limits.Sessions, config.DefaultSessions)
	return n.buildBridges(own)
}

// guarded reports whether somebody has to be asked about a client or a topic.
func guarded(m config.MQTT) bool { return m.Guarded() || m.Auth.ACL != "" || len(m.Auth.Access) > 0 }

// listeners reads the files of the listeners.
func (n *Node) listeners() ([]listen.Config, error) {
	var out []listen.Config
	for i, l := range n.cfg.MQTT.Listeners {
		c := listenConfig(l, n.cfg.MQTT.MaxPacket)
		c.Log, c.Registerer = n.log, n.registry
		if l.Cert != "" {
			var err error
			if c.TLS, err = tlsFiles(n.cfg, l, n.log).Config(); err != nil {
				return nil, fmt.Errorf("mqtt.listeners[%d]: %w", i, err)
			}
		}
		if strings.HasPrefix(l.URL, listen.QUIC+":") {
			keys, err := quicKeys(filepath.Join(n.cfg.Dir, mqttKeyFile))
			if err != nil {
				return nil, err
			}
			c.ResetKey = (*[32]byte)(keys)
		}
		out = append(out, c)
	}
	return out, nil
}

// household lets in the node's own bridges: they show a secret that lives as
// long as the process, as user bridge:NAME, and may do what nobody is denied.
type household struct {
	next   auth.Authenticator
	secret string
	all    *policy.Access // nil where everything is allowed anyhow
}

// bridgeUser begins the name of a bridge to the access rules. No password file
// can have such a user.
const bridgeUser = "bridge:"

// Authenticate implements auth.Authenticator.
func (h household) Authenticate(ctx context.Context, c auth.Client) (*auth.Identity, error) {
	if strings.HasPrefix(c.User, bridgeUser) && subtle.ConstantTimeCompare(c.Password, []byte(h.secret)) == 1 {
		return &auth.Identity{Client: c.ID, User: c.User, Rules: h.all}, nil
	}
	return h.next.Authenticate(ctx, c)
}

// everything is a rule that allows it. Rules that deny go before it.
func everything() (*policy.Access, error) {
	return policy.NewAccess([]policy.AccessRule{{
		Name: "the node's own bridge", Action: policy.Allow, From: []string{"*"}, Publish: []string{"#"}, Subscribe: []string{"#", "$SYS/#"},
	}})
}

func (n *Node) buildBridges(own household) error {
	self := n.material.Self()
	for _, b := range n.cfg.MQTT.Bridges {
		c := bridgeConfig(n.cfg, b)
		if c.Domain == "" {
			c.Domain = self.Mesh.String()
		}
		if c.Local.Username == "" && c.Local.Password == "" && c.Local.PasswordFile == "" {
			c.Local.Username, c.Local.Password = bridgeUser+b.Name, own.secret
		}
		made, err := bridge.New(c, bridge.Deps{
			Local:   func(context.Context) (net.Conn, error) { return n.broker.Connect() },
			Session: n.sessionFilters,
			Node:    self.Node.String(), Log: n.log, Reg: n.registry,
		})
		if err != nil {
			return err
		}
		n.front.bridges = append(n.front.bridges, made)
	}
	return nil
}

// sessionFilters is for bridges, which subscribe before their remote is reached.
func (n *Node) sessionFilters(ctx context.Context, client string) (filters []string, there bool, err error) {
	var v core.SessionView // on failure the loop may yet come to it
	if err := n.loop.call(ctx, func(_ time.Time, c *core.Core) { v, there = c.Session(client) }); err != nil {
		return nil, false, err
	}
	for _, s := range v.Subscriptions {
		filters = append(filters, s.Filter)
	}
	return filters, there, nil
}

// runFront serves clients until ctx ends.
func (n *Node) runFront(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.broker.Run(ctx) })
	if a := n.front.auth; a != nil {
		defer a.Close()
		group.Go(func() error { return a.Run(ctx) })
	}
	for _, b := range n.front.bridges {
		group.Go(func() error {
			select {
			case <-n.broker.Listening():
				return b.Run(ctx)
			case <-ctx.Done():
				return nil
			}
		})
	}
	return group.Wait()
}

// listening names the bound addresses: that of mqtt.listen, "" without, and
// the URLs of the listeners.
func (n *Node) listening() (plain string, urls []string) {
	bound := n.broker.Addrs()
	if plain = string(n.cfg.MQTT.Listen); plain != "" && len(bound) > 0 {
		plain, bound = bound[0].String(), bound[1:]
	}
	for i, l := range n.cfg.MQTT.Listeners {
		if i < len(bound) {
			l.URL = boundURL(l.URL, bound[i])
		}
		urls = append(urls, l.URL)
	}
	return plain, urls
}

// boundURL puts the port that the system chose into a URL.
func boundURL(at string, bound net.Addr) string {
	scheme, rest, _ := strings.Cut(at, "://")
	address, path, found := strings.Cut(rest, "/")
	if scheme == listen.Unix || !strings.HasSuffix(address, ":0") {
		return at
	}
	if found {
		path = "/" + path
	}
	return scheme + "://" + bound.String() + path
}

// views tells of the bridges.
func (f front) views() (out []admin.Bridge) {
	for _, b := range f.bridges {
		s := b.Status()
		v := admin.Bridge{
			Name: s.Name, Remote: s.Remote, State: string(s.State), Since: s.Since.UTC(), Version: s.Version,
			RTTms: float64(s.RTT) / float64(time.Millisecond), LastError: s.LastError, Warnings: s.Warnings,
			Out: bridgeTraffic(s.Out), In: bridgeTraffic(s.In),
		}
		if s.State == bridge.Connected {
			v.LastError = ""
		}
		out = append(out, v)
	}
	return out
}

func bridgeTraffic(t bridge.Traffic) admin.BridgeTraffic {
	out := admin.BridgeTraffic{UnderWay: t.UnderWay, Dropped: t.Dropped}
	for _, n := range t.Forwarded {
		out.Forwarded += n
	}
	return out
}

// Check is a config.Check: all that would keep a node from starting with c, and
// what its bridges would miss, the files that c names included. It starts
// nothing.
func Check(c config.Config) []config.Fault { return append(checkFront(c), checkFiles(c)...) }

// checkStandalone is for a configuration that flags changed.
func checkStandalone(c config.Config) error {
	err := c.MQTT.Validate()
	for _, f := range checkFront(c) {
		err = errors.Join(err, f)
	}
	return err
}
