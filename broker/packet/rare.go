package packet

import (
	"bytes"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Filter is one filter of a SUBSCRIBE with its options (MQTT 5, 3.8.3.1).
type Filter struct {
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
}

// Subscribe is a SUBSCRIBE.
type Subscribe struct {
	ID             uint16
	SubscriptionID int // 0 = none
	Filters        []Filter
}

// Unsubscribe is an UNSUBSCRIBE.
type Unsubscribe struct {
	ID      uint16
	Filters []string
}

// Disconnect is a client's DISCONNECT.
type Disconnect struct {
	Code      byte
	Strange   bool // Code is none that a client may say
	HasExpiry bool
	Expiry    uint32 // seconds
}

// Auth is an AUTH (MQTT 5, 3.15).
type Auth struct {
	Code   byte
	Method string
	Data   []byte
}

const (
	maxQoS         = 2
	optionReserved = 0xC0 // bits of the subscription options
	optionHandling = 0x30
)

// ParseSubscribe reads a SUBSCRIBE. Whether its filters are valid is left to
// the caller: each is answered by itself.
func ParseSubscribe(f Frame, version byte) (*Subscribe, error) {
	r := reader{b: f.Body}
	r.packetID()
	if version >= maxVersion5 {
		r.properties(TypeSubscribe, nil)
	}
	if r.err == nil && len(r.b) == 0 {
		r.fail(protocol("SUBSCRIBE without a filter")) // MQTT 5, [MQTT-3.8.3-2]
	}
	for len(r.b) > 0 {
		r.filter()
		r.option(version)
	}
	if r.err != nil {
		return nil, r.err
	}
	pk := packets.Packet{FixedHeader: header(f), ProtocolVersion: version}
	if err := pk.SubscribeDecode(bytes.Clone(f.Body)); err != nil {
		return nil, malformed("SUBSCRIBE: %v", err)
	}
	s := &Subscribe{ID: pk.PacketID, Filters: make([]Filter, len(pk.Filters))}
	if ids := pk.Properties.SubscriptionIdentifier; len(ids) > 0 {
		s.SubscriptionID = ids[0]
	}
	for i, p := range pk.Filters {
		s.Filters[i] = Filter{p.Filter, p.Qos, p.NoLocal, p.RetainAsPublished, p.RetainHandling}
	}
	return s, nil
}

// option checks the byte behind a filter.
func (r *reader) option(version byte) {
	o := r.byte("subscription options")
	switch {
	case r.err != nil:
	case version < maxVersion5 && o > maxQoS: // MQTT 3.1.1, [MQTT-3-8.3-4]
		r.fail(malformed("subscription options 0x%02X", o))
	case o&optionReserved != 0 || o&3 > maxQoS: // MQTT 5, [MQTT-3.8.3-5]
		r.fail(malformed("subscription options 0x%02X", o))
	case o&optionHandling == optionHandling:
		r.fail(protocol("retain handling 3"))
	}
}

// filter checks that a topic filter is there at all. Whether it is valid is
// answered filter by filter.
func (r *reader) filter() {
	f := r.text("topic filter")
	switch {
	case r.err != nil:
	case len(f) == 0: // MQTT 5, [MQTT-4.7.3-1]
		r.fail(malformed("a topic filter without a character"))
	case bytes.HasPrefix(f, []byte("$share/")): // MQTT 5, [MQTT-4.8.2-1] and [MQTT-4.8.2-2]
		group, rest, ok := bytes.Cut(f[len("$share/"):], []byte("/"))
		if !ok || len(group) == 0 || len(rest) == 0 || bytes.ContainsAny(group, "+#") {
			r.fail(protocol("shared subscription %.60q", f))
		}
	}
}

func (r *reader) packetID() {
	if id := r.uint16("packet id"); r.err == nil && id == 0 {
		r.fail(protocol("packet id 0")) // MQTT 5, [MQTT-2.2.1-3]
	}
}

// ParseUnsubscribe reads an UNSUBSCRIBE.
func ParseUnsubscribe(f Frame, version byte) (*Unsubscribe, error) {
	r := reader{b: f.Body}
	r.packetID()
	if version >= maxVersion5 {
		r.properties(TypeUnsubscribe, nil)
	}
	if r.err == nil && len(r.b) == 0 {
		r.fail(protocol("UNSUBSCRIBE without a filter")) // MQTT 5, [MQTT-3.10.3-2]
	}
	for len(r.b) > 0 {
		r.filter()
	}
	if r.err != nil {
		return nil, r.err
	}
	pk := packets.Packet{FixedHeader: header(f), ProtocolVersion: version}
	if err := pk.UnsubscribeDecode(bytes.Clone(f.Body)); err != nil {
		return nil, malformed("UNSUBSCRIBE: %v", err)
	}
	u := &Unsubscribe{ID: pk.PacketID, Filters: make([]string, len(pk.Filters))}
	for i, p := range pk.Filters {
		u.Filters[i] = p.Filter
	}
	return u, nil
}

// ParseDisconnect reads a DISCONNECT.
func ParseDisconnect(f Frame, version byte) (Disconnect, error) {
	r := reader{b: f.Body}
	var d Disconnect
	if version < maxVersion5 || len(f.Body) == 0 {
		r.end()
		return d, r.err
	}
	d.Code = r.byte("reason code")
	if len(r.b) > 0 {
		r.properties(TypeDisconnect, func(v property) {
			if v.id == propSessionExpiry {
				d.HasExpiry, d.Expiry = true, v.num
			}
		})
	}
	r.end()
	d.Strange = !disconnectCode(d.Code)
	return d, r.err
}

// disconnectCode reports whether a client may disconnect with it (MQTT 5,
// 3.14.2.1).
func disconnectCode(code byte) bool {
	switch code {
	case 0, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99:
		return true
	}
	return false
}

// ParseAuth reads an AUTH.
func ParseAuth(f Frame, version byte) (Auth, error) {
	if version < maxVersion5 {
		return Auth{}, malformed("AUTH before MQTT 5")
	}
	r := reader{b: f.Body}
	if len(f.Body) == 0 {
		return Auth{}, protocol("AUTH without an authentication method")
	}
	a := Auth{Code: r.byte("reason code")}
	if a.Code != 0x18 && a.Code != 0x19 {
		r.fail(protocol("AUTH of a client with reason code 0x%02X", a.Code))
	}
	r.properties(TypeAuth, func(v property) {
		switch v.id {
		case propAuthMethod:
			a.Method = string(v.text)
		case propAuthData:
			a.Data = bytes.Clone(v.text)
		}
	})
	r.end()
	if r.err == nil && a.Method == "" {
		r.fail(protocol("AUTH without an authentication method")) // MQTT 5, 3.15.2.2.2
	}
	return a, r.err
}
