package packet

import (
	"bytes"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Property is a user property.
type Property struct{ Key, Value string }

// Will is what a CONNECT leaves to be published.
type Will struct {
	Topic           string
	Payload         []byte
	QoS             byte
	Retain          bool
	Delay           uint32 // seconds
	HasFormat       bool
	PayloadFormat   byte
	Expiry          uint32 // seconds, 0 = none
	HasContentType  bool
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte
	User            []Property
}

// Connect is a CONNECT. Nothing of it aliases the frame.
type Connect struct {
	Version         byte // 3, 4 or 5
	Bridge          bool // a broker of MQTT 3, by a bit that Mosquitto and others set
	Client          string
	Clean           bool
	KeepAlive       uint16 // seconds
	HasUser         bool
	User            string
	HasPassword     bool
	Password        []byte
	Will            *Will
	SessionExpiry   uint32 // seconds; 0 when not said
	ReceiveMax      uint16 // 0 when not said
	MaxPacket       uint32 // bytes; 0 when not said
	AliasMax        uint16
	NoProblemInfo   bool // the client wants no reason strings and user properties
	RequestResponse bool
	AuthMethod      string
	AuthData        []byte
}

// Flags of a CONNECT (MQTT 5, 3.1.2.3).
const (
	flagReserved = 1 << iota
	flagClean
	flagWill
	flagWillQoS
	_
	flagWillRetain
	flagPassword
	flagUser
)

// bridgeBit is set in the protocol version by the bridges of MQTT 3 brokers.
const bridgeBit = 0x80

// VersionOf reads the protocol version of a CONNECT, however damaged the rest
// of it is: it says which CONNACK the client can read. 0 means none.
func VersionOf(f Frame) byte {
	r := reader{b: f.Body}
	name := string(r.binary("protocol name"))
	v := r.byte("protocol version")
	if r.err != nil || name != "MQTT" && name != "MQIsdp" {
		return 0
	}
	return v
}

// ParseConnect reads a CONNECT. A protocol name that is none of MQTT's is
// malformed, a version that is not spoken here a Fault with CodeVersion.
func ParseConnect(f Frame) (*Connect, error) {
	typed := false
	if err := checkConnect(f.Body, func(v property) { typed = typed || v.id == propContentType }); err != nil {
		return nil, err
	}
	pk := packets.Packet{FixedHeader: header(f)}
	if err := pk.ConnectDecode(bytes.Clone(f.Body)); err != nil { // it aliases what it reads
		return nil, malformed("CONNECT: %v", err)
	}
	p, props := &pk.Connect, &pk.Properties
	c := &Connect{
		Version: pk.ProtocolVersion &^ bridgeBit, Bridge: pk.ProtocolVersion&bridgeBit != 0, Client: p.ClientIdentifier, Clean: p.Clean, KeepAlive: p.Keepalive,
		HasUser: p.UsernameFlag, User: string(p.Username), HasPassword: p.PasswordFlag, Password: p.Password,
		SessionExpiry: props.SessionExpiryInterval, ReceiveMax: props.ReceiveMaximum, MaxPacket: props.MaximumPacketSize,
		AliasMax: props.TopicAliasMaximum, NoProblemInfo: props.RequestProblemInfoFlag && props.RequestProblemInfo == 0,
		RequestResponse: props.RequestResponseInfo == 1, AuthMethod: props.AuthenticationMethod, AuthData: props.AuthenticationData,
	}
	if p.WillFlag {
		w := &p.WillProperties
		c.Will = &Will{
			Topic: p.WillTopic, Payload: p.WillPayload, QoS: p.WillQos, Retain: p.WillRetain, Delay: w.WillDelayInterval,
			HasFormat: w.PayloadFormatFlag, PayloadFormat: w.PayloadFormat, Expiry: w.MessageExpiryInterval,
			HasContentType: typed, ContentType: w.ContentType,
			ResponseTopic: w.ResponseTopic, CorrelationData: w.CorrelationData,
		}
		for _, u := range w.User {
			c.Will.User = append(c.Will.User, Property{u.Key, u.Val})
		}
	}
	return c, nil
}

func header(f Frame) packets.FixedHeader {
	return packets.FixedHeader{Type: f.Type, Remaining: len(f.Body), Qos: f.Flags >> 1 & 3}
}

// checkConnect calls each with every property of the will.
func checkConnect(body []byte, each func(property)) error {
	r := reader{b: body}
	name := string(r.binary("protocol name"))
	version := r.byte("protocol version")
	if version == 3|bridgeBit || version == 4|bridgeBit {
		version &^= bridgeBit
	}
	switch {
	case r.err != nil:
		return r.err
	case name != "MQTT" && name != "MQIsdp": // MQTT 5, [MQTT-3.1.2-1]
		return protocol("protocol name %.20q", name)
	case name == "MQIsdp" && version != 3 || name == "MQTT" && version != 4 && version != 5:
		return &Fault{CodeVersion, "protocol version is not 3, 4 or 5"} // MQTT 5, [MQTT-3.1.2-2]
	}
	flags := r.byte("connect flags")
	if err := checkConnectFlags(flags, version); err != nil && r.err == nil {
		return err
	}
	r.uint16("keep alive")
	if version >= maxVersion5 {
		r.properties(TypeConnect, nil)
	}
	r.text("client identifier")
	if flags&flagWill != 0 {
		r.will(version, each)
	}
	if flags&flagUser != 0 {
		r.text("user name")
	}
	if flags&flagPassword != 0 {
		r.binary("password")
	}
	r.end()
	return r.err
}

func checkConnectFlags(flags, version byte) error {
	willQoS := flags / flagWillQoS & 3
	switch {
	case flags&flagReserved != 0 && version > 3: // MQTT 5, [MQTT-3.1.2-3]; MQTT 3.1 does not use it
		return malformed("the reserved connect flag is set")
	case willQoS == 3: // MQTT 5, [MQTT-3.1.2-12]
		return malformed("will QoS 3")
	case flags&flagWill == 0 && (willQoS != 0 || flags&flagWillRetain != 0): // MQTT 5, [MQTT-3.1.2-11] and [MQTT-3.1.2-13]
		return malformed("will QoS or retain without a will")
	case version < maxVersion5 && flags&flagUser == 0 && flags&flagPassword != 0: // MQTT 3.1.1, [MQTT-3.1.2-22]
		return malformed("a password without a user name")
	}
	return nil
}

func (r *reader) will(version byte, each func(property)) {
	if version >= maxVersion5 {
		r.properties(will, each)
	}
	topic := r.text("will topic")
	if r.err == nil && len(topic) == 0 {
		r.fail(&Fault{CodeBadTopic, "the will has no topic"})
	}
	r.binary("will payload")
}
