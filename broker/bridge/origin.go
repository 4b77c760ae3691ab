package bridge

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// OriginProperty is the user property by which bridges know a message again.
// Its value is
//
//	ID;CHECK;DOMAIN,DOMAIN,...
//
// ID is the message's identity: the mesh's where the local broker gave the
// bare ID as the value, else one the first bridge made. CHECK binds it to the
// message, so that an application that copies user properties into an answer
// does not have the answer taken for the question. The domains are those the
// message has been in, in order.
const OriginProperty = "farhop-origin"

const (
	maxHops   = 16   // domains of one message: a fuse, the path alone ends loops
	maxOrigin = 2048 // bytes of the value
)

// origin is a decoded OriginProperty.
type origin struct {
	id    string
	check string // "" where the value was a bare id
	path  []string
}

// parseOrigin reads the property's value.
func parseOrigin(s string) (origin, error) {
	if len(s) > maxOrigin {
		return origin{}, fmt.Errorf("%s of %d bytes, at most %d", OriginProperty, len(s), maxOrigin)
	}
	id, rest, full := strings.Cut(s, ";")
	if id == "" || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return origin{}, fmt.Errorf("%s without an identity", OriginProperty)
	}
	if !full {
		return origin{id: id}, nil
	}
	check, list, ok := strings.Cut(rest, ";")
	if !ok || check == "" {
		return origin{}, fmt.Errorf("%s has no check and path", OriginProperty)
	}
	path := strings.Split(list, ",")
	for _, d := range path {
		if !domains.MatchString(d) {
			return origin{}, fmt.Errorf("%s names the domain %q", OriginProperty, d)
		}
	}
	return origin{id, check, path}, nil
}

func (o origin) String() string { return o.id + ";" + o.check + ";" + strings.Join(o.path, ",") }

// originOf takes the origin of a message, if it bears one of its own.
func originOf(pk *packets.Packet) (origin, bool) {
	i := slices.IndexFunc(pk.Properties.User, isOrigin)
	if i < 0 {
		return origin{}, false
	}
	o, err := parseOrigin(pk.Properties.User[i].Val)
	if err != nil || o.check != "" && o.check != check(pk) {
		return origin{}, false
	}
	return o, true
}

func isOrigin(p packets.UserProperty) bool { return p.Key == OriginProperty }

// stamp puts the origin on the message in place of any older.
func stamp(pk *packets.Packet, o origin) {
	pk.Properties.User = append(slices.DeleteFunc(pk.Properties.User, isOrigin), packets.UserProperty{Key: OriginProperty, Val: o.String()})
}

// check is a digest of what of a message no bridge changes: all of it but the
// topic, of which prefixes change and the last level stays.
func check(pk *packets.Packet) string {
	h := fnv.New64a()
	topic := pk.TopicName
	writeAll(h.Write, []byte(topic[strings.LastIndexByte(topic, '/')+1:]), pk.Properties.CorrelationData, []byte(pk.Properties.ContentType), pk.Payload)
	return fmt.Sprintf("%016x", h.Sum64())
}

// digest is of a message as one broker knows it: for telling redeliveries and
// echoes, never kept beyond this process.
func digest(topic string, payload []byte, qos byte) uint64 {
	h := fnv.New64a()
	writeAll(h.Write, []byte(topic), payload, []byte{qos})
	return h.Sum64()
}

// writeAll hashes parts with their lengths, so that none runs into the next.
func writeAll(write func([]byte) (int, error), parts ...[]byte) {
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		_, _ = write(n[:]) // a hash never fails
		_, _ = write(p)
	}
}
