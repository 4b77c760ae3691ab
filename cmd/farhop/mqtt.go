package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session"
	"github.com/spf13/cobra"
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
	ca, cert, key           string // files
	timeout                 time.Duration
}

func (b *brokerFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&b.url, "broker", "", "URL of the broker: mqtt, mqtts, ws or wss://HOST:PORT[/PATH], or unix:///PATH (default: that of the node)")
	f.StringVar(&b.ca, "ca", "", "file with who signed the broker's certificate, PEM (default: whom the system trusts)")
	f.StringVar(&b.cert, "cert", "", "file with a certificate for this client, PEM")
	f.StringVar(&b.key, "key", "", "file with its key, PEM")
	f.StringVar(&b.user, "user", "", "name of an MQTT user")
	f.StringVar(&b.passwordFile, "password-file", "", "file with the user's password (default: $FARHOP_MQTT_PASSWORD)")
	f.DurationVar(&b.timeout, "timeout", 30*time.Second, "how long the broker may take for one answer")
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
	at, err := a.address(c, b)
	if err != nil {
		return nil, err
	}
	addr := at.addr
	password, err := a.password(b)
	if err != nil {
		return nil, err
	}
	conn, err := at.dial(ctx, b.timeout)
	if err != nil {
		return nil, err
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
