package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session"
	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/config"
)

const (
	keepAlive   = 60 // seconds
	maxPassword = 64 << 10
	// maxWaiting is MQTT's receive maximum: messages on their way to farhop sub.
	maxWaiting = 1024
)

// brokerFlags say how to reach a broker: the node's own, unless told otherwise.
type brokerFlags struct {
	url, user, passwordFile string
	timeout                 time.Duration
}

func (b *brokerFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&b.url, "broker", "", "tcp://HOST:PORT or unix:///PATH of the broker (default: that of the node)")
	f.StringVar(&b.user, "user", "", "name of an MQTT user")
	f.StringVar(&b.passwordFile, "password-file", "", "file with the user's password (default: $FARHOP_MQTT_PASSWORD)")
	f.DurationVar(&b.timeout, "timeout", 30*time.Second, "how long the broker may take for one answer")
}

// address returns where the broker is: a network and an address for package
// net.
func (a *app) address(c *cobra.Command, b *brokerFlags) (network, addr string, err error) {
	if b.url != "" {
		return parseBroker(c, b.url)
	}
	cfg, path, err := a.loadConfig(nil)
	if err != nil {
		return "", "", err
	}
	switch m := cfg.MQTT; {
	case !m.Serves():
		return "", "", failed("name one with --broker, or set mqtt.listen", "the node runs no broker: mqtt.listen in %s is empty, and there are no mqtt.listeners", path)
	case m.Listen == "":
		return a.listener(c, m.Listeners, path)
	case m.Listen.Port() != 0:
		return "tcp", localTarget(m.Listen), nil
	}
	st, err := a.status(c) // only the daemon knows the port it was given
	return "tcp", st.MQTT.Listen, err
}

// listener finds one among the listeners of a node that these commands speak
// with: TCP or a unix socket.
func (a *app) listener(c *cobra.Command, all []config.Listener, path string) (network, addr string, err error) {
	var urls []string
	for _, l := range all {
		urls = append(urls, l.URL)
	}
	if slices.ContainsFunc(urls, func(u string) bool {
		return strings.HasPrefix(u, "tcp:") && strings.HasSuffix(strings.TrimRight(u, "/"), ":0")
	}) {
		st, err := a.status(c)
		if err != nil {
			return "", "", err
		}
		urls = st.MQTT.Listeners
	}
	for _, text := range urls {
		u, err := url.Parse(text)
		switch {
		case err != nil:
		case u.Scheme == "tcp":
			return "tcp", localTarget(config.HostPort(u.Host)), nil
		case u.Scheme == "unix":
			return "unix", u.Path, nil
		}
	}
	return "", "", failed("add one of tcp or unix, or mqtt.listen, or name another broker with --broker",
		"the node listens at %s (mqtt.listeners in %s), which this command does not speak", strings.Join(urls, ", "), path)
}

func parseBroker(c *cobra.Command, text string) (network, addr string, err error) {
	if path, ok := strings.CutPrefix(text, "unix://"); ok && strings.HasPrefix(path, "/") {
		return "unix", path, nil
	}
	rest, ok := strings.CutPrefix(text, "tcp://")
	if !ok {
		rest, ok = strings.CutPrefix(text, "mqtt://")
	}
	if !ok && strings.Contains(text, "://") {
		return "", "", usage(c, "--broker: %q is not tcp://HOST:PORT or unix:///PATH; brokers with TLS are not supported here", text)
	}
	u, err := url.Parse("tcp://" + rest)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
		return "", "", usage(c, "--broker: %q is not tcp://HOST:PORT or unix:///PATH", text)
	}
	if u.Port() == "" {
		return "tcp", net.JoinHostPort(u.Hostname(), "1883"), nil
	}
	return "tcp", u.Host, nil
}

// localTarget is where a client on this machine reaches a listener.
func localTarget(h config.HostPort) string {
	host, port, err := net.SplitHostPort(string(h))
	if err != nil {
		return string(h)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

func (a *app) password(b *brokerFlags) ([]byte, error) {
	if b.passwordFile == "" {
		return []byte(os.Getenv("FARHOP_MQTT_PASSWORD")), nil
	}
	data, err := a.readFile(b.passwordFile, maxPassword)
	return []byte(strings.TrimRight(string(data), "\r\n")), err
}

// connection is what a command wants of its connection to the broker.
type connection struct {
	client  string        // client id
	resume  bool          // keep the session of an earlier connection
	expiry  time.Duration // how long the session outlives the connection
	session session.SessionManager
	message func(*paho.Publish)
	lost    context.CancelCauseFunc // told once the connection is gone
}

// connect speaks MQTT 5 with a broker. The caller must Disconnect.
func (a *app) connect(ctx context.Context, c *cobra.Command, b *brokerFlags, o connection) (*paho.Client, error) {
	network, addr, err := a.address(c, b)
	if err != nil {
		return nil, err
	}
	password, err := a.password(b)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: b.timeout}
	conn, err := d.DialContext(ctx, network, addr)
	if errors.Is(err, syscall.ECONNREFUSED) || network == "unix" && errors.Is(err, syscall.ENOENT) {
		return nil, &failure{exitNotRunning, fmt.Errorf("no MQTT broker answers at %s", addr), "farhop run, or name another broker with --broker"}
	}
	if err != nil {
		return nil, &failure{exitNotRunning, fmt.Errorf("reach the broker at %s: %w", addr, err), "check --broker, or mqtt.listen and mqtt.listeners"}
	}
	cl := paho.NewClient(o.config(conn, b.timeout))
	ack, err := cl.Connect(ctx, o.packet(b.user, password))
	switch {
	case err != nil && ack != nil:
		return nil, failed("check --user, the password, and what the broker allows", "the broker at %s refuses the connection: %s", addr, connackText(ack))
	case err != nil:
		return nil, fmt.Errorf("connect to the broker at %s: %w", addr, err)
	}
	return cl, nil
}

func (o connection) config(conn net.Conn, timeout time.Duration) paho.ClientConfig {
	return paho.ClientConfig{
		Conn: conn, ClientID: o.client, Session: o.session, PacketTimeout: timeout,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			if o.message != nil {
				o.message(p.Packet)
			}
			return true, nil
		}},
		OnClientError:      func(err error) { o.lost(fmt.Errorf("the connection to the broker is gone: %w", err)) },
		OnServerDisconnect: func(d *paho.Disconnect) { o.lost(&disconnected{d}) },
	}
}

func (o connection) packet(user string, password []byte) *paho.Connect {
	expiry, receive := uint32(min(o.expiry/time.Second, 1<<32-1)), uint16(maxWaiting)
	p := &paho.Connect{
		ClientID: o.client, KeepAlive: keepAlive, CleanStart: !o.resume,
		Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry, ReceiveMaximum: &receive, RequestProblemInfo: true},
	}
	if user != "" {
		p.Username, p.UsernameFlag = user, true
		p.Password, p.PasswordFlag = password, len(password) > 0
	}
	return p
}

// subscribe returns once the broker has taken all filters.
func subscribe(ctx context.Context, cl *paho.Client, qos byte, filters ...string) error {
	var s paho.Subscribe
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: qos})
	}
	ack, err := cl.Subscribe(ctx, &s)
	if ack == nil {
		return err
	}
	for i, code := range ack.Reasons {
		if code >= 0x80 && i < len(filters) {
			p := packets.Suback{Reasons: []byte{code}}
			return failed("check the filter and what the broker allows", "the broker refuses the subscription to %q: %s", filters[i], p.Reason(0))
		}
	}
	return err
}

func connackText(ack *paho.Connack) string {
	text := (&packets.Connack{ReasonCode: ack.ReasonCode}).Reason()
	if ack.Properties != nil {
		text = join(": ", text, ack.Properties.ReasonString)
	}
	return text
}

// disconnected is the error when the broker ends a connection.
type disconnected struct{ packet *paho.Disconnect }

// Error implements error.
func (d *disconnected) Error() string {
	text := (&packets.Disconnect{ReasonCode: d.packet.ReasonCode}).Reason()
	if d.packet.Properties != nil {
		text = join(": ", strings.TrimSuffix(text, "."), d.packet.Properties.ReasonString)
	}
	return "the broker ended the connection: " + text
}

// final reports whether connecting again would end the same way. Two programs
// with one client id would otherwise throw each other out for ever.
func (d *disconnected) final() bool {
	switch d.packet.ReasonCode {
	case packets.DisconnectServerBusy, packets.DisconnectServerShuttingDown, packets.DisconnectKeepAliveTimeout:
		return false
	}
	return true
}

// randomID returns 16 hex digits.
func randomID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, see its documentation
	return hex.EncodeToString(b[:])
}
