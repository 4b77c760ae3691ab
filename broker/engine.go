package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// engine decodes one connection's packets and calls conn for each, until the
// connection ends. It answers PINGREQ and writes the CONNACK.
type engine interface {
	serve(c *conn) error
}

// mochi is the engine on mochi-mqtt v2. Its server is never started: it has no
// listener, no ticker of ours reads, and no client it knows shares an id with
// another, because each gets its connection number as id.
type mochi struct {
	srv *mqtt.Server
}

func newMochi(cfg Config) (*mochi, error) {
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumMessageExpiryInterval = 0 // the default would give every message 24 h
	caps.MaximumClientWritesPending = 1   // its outbound channel is never used
	caps.MaximumPacketSize = uint32(cfg.MaxPacket)
	caps.MaximumSessionExpiryInterval = cfg.MaxSessionExpiry
	caps.ReceiveMaximum = uint16(cfg.ReceiveMax)
	caps.MaximumInflight = uint16(cfg.Window)
	caps.TopicAliasMaximum = 0 // resolved by conn; mochi advertises none
	srv := mqtt.New(&mqtt.Options{
		Capabilities:             caps,
		ClientNetReadBufferSize:  16, // conn buffers
		ClientNetWriteBufferSize: 16,
		SysTopicResendInterval:   3600,
		Logger:                   slog.New(slog.DiscardHandler), // it logs whole packets; what ends a connection is logged by conn.serve
	})
	if err := srv.AddHook(&hook{maxPacket: uint32(cfg.MaxPacket)}, nil); err != nil {
		return nil, fmt.Errorf("mqtt engine: %w", err)
	}
	return &mochi{srv: srv}, nil
}

// serve runs one connection. The codec of v2.7.9 reads past the end of some
// truncated MQTT 5 packets (SUBSCRIBE without options); that panic is the
// client's fault and ends its connection. A panic of our own code goes on.
func (e *mochi) serve(c *conn) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if c.engaged {
				panic(r)
			}
			err = &fault{codeMalformed, fmt.Sprintf("malformed packet: %v", r)}
		}
	}()
	err = e.srv.EstablishConnection("mqtt", c)
	e.srv.Clients.Delete(strconv.FormatUint(c.num, 10)) // persistent ones would stay
	var code packets.Code
	if errors.As(err, &code) && code.Code >= codeUnspecified && code != packets.ErrRejectPacket {
		return &fault{code.Code, code.Reason}
	}
	return err
}

// hook takes every packet away from mochi that it would act on.
type hook struct {
	mqtt.HookBase
	maxPacket uint32
}

func (h *hook) ID() string { return "farhop" }

func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablished, mqtt.OnPacketRead,
		mqtt.OnPacketEncode, mqtt.OnPublish:
		return true
	}
	return false
}

// OnConnectAuthenticate is true: OnConnect has decided.
func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnPublish rejects: mochi must never acknowledge or route, whatever got here.
func (h *hook) OnPublish(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	return pk, packets.ErrRejectPacket
}

// OnConnect opens the session. An error ends the connection without a CONNACK
// from mochi; conn has written the refusal.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c := cl.Net.Conn.(*conn)
	c.engaged = true
	defer func() { c.engaged = false }()
	p := &cl.Properties.Props
	in := hello{
		client: cl.ID, user: string(pk.Connect.Username), password: pk.Connect.Password, hasUser: pk.Connect.UsernameFlag,
		clean: pk.Connect.Clean, keepAlive: pk.Connect.Keepalive, authMethod: p.AuthenticationMethod,
	}
	if c.version >= 5 {
		in.expiry = p.SessionExpiryInterval
		in.receiveMax = pk.Properties.ReceiveMaximum
		in.maxPacket = p.MaximumPacketSize
		in.noProblem = p.RequestProblemInfoFlag && p.RequestProblemInfo == 0
	} else if !in.clean {
		in.expiry = NeverExpires
	}
	cl.ID = strconv.FormatUint(c.num, 10)
	cl.State.Inflight.ResetSendQuota(0)
	if code := c.onConnect(in); code != codeSuccess {
		return packets.ErrRejectPacket
	}
	return nil
}

// OnPacketEncode completes the CONNACK.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type != packets.Connack || pk.ReasonCode != codeSuccess {
		return pk
	}
	c := cl.Net.Conn.(*conn)
	pk.SessionPresent = c.present
	pk.Properties.TopicAliasMaximum = maxAliases
	pk.Properties.MaximumPacketSize = h.maxPacket
	return pk
}

// OnSessionEstablished comes right after the CONNACK.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	cl.Net.Conn.(*conn).start()
}

// OnPacketRead is where packets come in. What conn handles is replaced by a
// PUBACK for packet id 0, which mochi looks up, does not find, and forgets.
// ErrRejectPacket ends the connection; conn has said why.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := cl.Net.Conn.(*conn)
	c.engaged = true
	defer func() { c.engaged = false }()
	var err error
	switch pk.FixedHeader.Type {
	case packets.Pingreq:
		return pk, nil
	case packets.Connect:
		if err = c.readConnect(&pk); err == nil {
			return pk, nil
		}
	case packets.Disconnect:
		if err = c.onDisconnect(pk.ReasonCode, pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag); err == nil {
			return pk, nil
		}
	case packets.Publish:
		err = c.readPublish(&pk)
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		err = c.onAck(pk.FixedHeader.Type, pk.PacketID, pk.ReasonCode)
	case packets.Subscribe:
		err = c.readSubscribe(&pk)
	case packets.Unsubscribe:
		filters := make([]string, len(pk.Filters))
		for i, f := range pk.Filters {
			filters[i] = f.Filter
		}
		err = c.onUnsubscribe(pk.PacketID, filters)
	default:
		err = c.fail(codeProtocol, "packet type "+strconv.Itoa(int(pk.FixedHeader.Type))+" is not for servers")
	}
	if err != nil {
		return pk, packets.ErrRejectPacket
	}
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}}, nil
}

// readConnect keeps the will, which mochi would publish itself, without most
// of its properties, and hides it from mochi.
func (c *conn) readConnect(pk *packets.Packet) error {
	if c.greeted {
		return c.fail(codeProtocol, "second CONNECT")
	}
	c.greeted = true
	c.version = min(pk.ProtocolVersion, 5)
	p := &pk.Connect
	if p.WillQos > 2 || !p.WillFlag && (p.WillQos != 0 || p.WillRetain) { // MQTT 5, 3.1.2.6 and 3.1.2.7
		return c.fail(codeMalformed, "bad will flags")
	}
	if p.WillFlag {
		m := message(&p.WillProperties)
		m.Topic, m.Payload, m.QoS, m.Retain = p.WillTopic, p.WillPayload, p.WillQos, p.WillRetain
		c.will = &will{m: m, delay: p.WillProperties.WillDelayInterval}
	}
	p.WillFlag, p.WillRetain, p.WillQos, p.WillTopic, p.WillPayload = false, false, 0, "", nil
	return nil
}

func (c *conn) readPublish(pk *packets.Packet) error {
	p := &pk.Properties
	if len(p.SubscriptionIdentifier) > 0 {
		return c.fail(codeProtocol, "PUBLISH of a client with a subscription identifier")
	}
	m := message(p)
	m.Topic, m.Payload, m.QoS, m.Retain = pk.TopicName, pk.Payload, pk.FixedHeader.Qos, pk.FixedHeader.Retain
	return c.onPublish(m, pk.PacketID, p.TopicAlias, p.TopicAliasFlag)
}

// message converts the properties a PUBLISH and a will have in common. The
// bytes are the packet's own copy.
func message(p *packets.Properties) *Message {
	m := &Message{
		PayloadFormat: p.PayloadFormat, ContentType: p.ContentType, ResponseTopic: p.ResponseTopic,
		CorrelationData: p.CorrelationData, Expiry: p.MessageExpiryInterval,
	}
	for _, u := range p.User {
		m.UserProperties = append(m.UserProperties, KV{u.Key, u.Val})
	}
	return m
}

func (c *conn) readSubscribe(pk *packets.Packet) error {
	id := 0
	if ids := pk.Properties.SubscriptionIdentifier; len(ids) > 0 {
		if id = ids[0]; len(ids) > 1 || id == 0 {
			return c.fail(codeProtocol, "bad subscription identifier") // MQTT 5, 3.8.2.1.2
		}
	}
	subs := make([]Subscription, len(pk.Filters))
	for i, f := range pk.Filters {
		subs[i] = Subscription{
			Filter: f.Filter, QoS: f.Qos, NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished,
			RetainHandling: f.RetainHandling, ID: id,
		}
	}
	return c.onSubscribe(pk.PacketID, subs)
}
