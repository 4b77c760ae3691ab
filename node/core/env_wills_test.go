package core_test

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// will makes the will that a connect command speaks of, nil without.
func (e *env) will() *core.Will {
	label := e.value("will", "")
	if label == "" {
		return nil
	}
	w := &core.Will{
		Topic: e.value("topic", "will"), Class: bundle.Telemetry, QoS: uint8(e.number("qos", 1)), Delay: uint32(e.number("delay", 0)),
		TTL: e.duration("ttl"), Retain: e.flag("retain"), Clear: e.flag("clear"),
	}
	marks := ""
	if w.TTL > 0 {
		marks += "e"
	}
	if w.Clear {
		marks += "c"
	}
	text := fmt.Sprintf("%s %s @0 %s ", label, w.Topic, marks)
	if !w.Retain {
		text = label + " " + w.Topic + " "
	}
	text += strings.Repeat("x", max(e.number("size", 0)-len(text), 0))
	w.Blob = &store.Blob{B: bundle.AppendPayload(nil, []byte(text))}
	return w
}

// stamped is what a driver does to the block of a retained will.
func stamped(b *store.Blob, s core.Stamp) *store.Blob {
	data, err := bundle.PayloadData(b.B)
	if err != nil {
		panic(err)
	}
	text := strings.Replace(string(data), "@0", "@"+strconv.FormatUint(uint64(s), 10), 1)
	return &store.Blob{B: bundle.AppendPayload(nil, []byte(text))}
}

func (e *env) cmdElsewhere() {
	n := e.node(e.arg(0))
	n.core.ClientElsewhere(n.now(), e.arg(1))
	n.pump()
}
