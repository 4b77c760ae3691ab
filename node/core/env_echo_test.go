package core_test

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

func (e *env) cmdPing() {
	n := e.node(e.arg(0))
	for id := range e.number("n", 1) {
		s := core.Submission{
			Token: n.newToken("ping %d", id+1), To: addr.MustNode(e.arg(1)), Service: core.ServiceEcho, Class: bundle.Interactive, QoS: 1,
			TTL: e.duration("ttl"), Blob: core.EchoQuestion(uint64(id) + 1),
		}
		if e.flag("odd") {
			s.Blob = &store.Blob{B: bundle.AppendPayload(nil, []byte{1, 2, 3})}
		}
		n.core.Submit(n.now(), []core.Submission{s})
	}
	n.pump()
}

// echoLabel names the payloads of pings, which are no text.
func echoLabel(data []byte) string {
	if (len(data) == 32 || len(data) == 18) && data[0] == 1 {
		return fmt.Sprintf("%s-%d", map[int]string{32: "question", 18: "answer"}[len(data)], binary.BigEndian.Uint64(data[1:]))
	}
	return ""
}

func (n *enode) echoed(all []core.Echoed) {
	for _, a := range all {
		n.e.printf("%s hears %d from %s %s there=%d back=%d at=%v", n.name, a.ID, a.From, a.Class, a.There, a.Back, time.UnixMilli(a.At).Sub(epoch))
	}
}
