package dtn

import (
	"errors"
	"fmt"
	"strings"

	"github.com/farhop/farhop/routing/interest"
)

// mqttService is the first part of the demux of endpoints that are topics:
// dtn://NODE/mqtt/TOPIC, and ~mqtt of a region.
const mqttService = "mqtt"

// errTopic is the cause of every endpoint that names no topic to publish to.
var errTopic = errors.New("the endpoint names no topic")

// escapeTopic writes a topic as the path of a URI (RFC 3986, section 3.3):
// levels stay separated by slashes, what is not unreserved is escaped. It and
// unescapeTopic are each other's inverse, byte for byte.
func escapeTopic(topic string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(topic))
	for i := range len(topic) {
		switch c := topic[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~/", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

// unescapeTopic reads the path of an endpoint as a topic that may be published
// to from outside: no wildcard, and none of the topics with $, which are the
// mesh's own.
func unescapeTopic(path string) (string, error) {
	var b strings.Builder
	b.Grow(len(path))
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			b.WriteByte(path[i])
			continue
		}
		if i+2 >= len(path) {
			return "", fmt.Errorf("%w: an escape is cut off", errTopic)
		}
		hi, lo := unhex(path[i+1]), unhex(path[i+2])
		if hi > 15 || lo > 15 {
			return "", fmt.Errorf("%w: %q is no escape", errTopic, path[i:i+3])
		}
		b.WriteByte(hi<<4 | lo)
		i += 2
	}
	return b.String(), checkTopic(b.String())
}

func checkTopic(topic string) error {
	if err := interest.ValidTopic(topic); err != nil {
		return fmt.Errorf("%w: %w", errTopic, err)
	}
	if strings.HasPrefix(topic, "$") {
		return fmt.Errorf("%w: topics with $ are not for other stacks", errTopic)
	}
	return nil
}

// unhex returns the value of a hexadecimal digit, 16 for another byte.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}

// fillTemplate makes the text of an endpoint from a template and a topic.
func fillTemplate(template, topic string) string {
	return strings.ReplaceAll(template, topicHole, escapeTopic(topic))
}

// topicHole stands for the topic in the destination of an Export.
const topicHole = "{topic}"
