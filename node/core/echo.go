package core

import (
	"encoding/binary"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// The services of farhop ping. A question for ServiceEcho is a bundle like any
// other: it waits in queues, is taken into custody at each hop and goes where
// the routes lead. The node it is for answers the node it came from, for its
// ServiceEchoed. An answer is never answered, is smaller than its question, and
// lives no longer than what is left of the question's life.
const (
	ServiceEcho   = "echo"
	ServiceEchoed = "echoed"
)

// Both payloads begin with a version byte and the number of the question, 8
// bytes. The question is zeros from there on; the answer says how many hops the
// question took and when it came, ms by the clock of the node that answers.
const (
	echoVersion  = 1
	echoSize     = 32            // of a question
	echoedSize   = 1 + 8 + 1 + 8 // of an answer; a shorter question has none
	maxEchoesDue = 1024          // answers that wait for a Take; more questions are not answered
	maxEchoNodes = maxNodes      // asking nodes that are counted
)

// A node that asks more than this is not answered until it was quiet: a burst,
// and then one for each so many ms.
const (
	echoBurst = 256
	echoEvery = 10
)

// echoes are the questions that the present batch answers, and how much each
// node asked of late.
type echoes struct {
	due   []echoDue
	spent map[addr.Node]int64 // ms, the end of what was asked at the pace of echoEvery
}

// echoDue is one question to be answered.
type echoDue struct {
	to    addr.Node
	class bundle.Class
	life  int64
	body  []byte
}

// Echoed is the answer to a question of this node.
type Echoed struct {
	From  addr.Node // the node that answered
	ID    uint64    // of the question
	Class bundle.Class
	There uint8 // links the question went over
	Back  uint8 // and the answer
	At    int64 // ms by the clock of From: when the question came
}

// EchoQuestion makes the payload block of a question, for a Submission with
// Service ServiceEcho to one node.
func EchoQuestion(id uint64) *store.Blob {
	data := make([]byte, echoSize)
	data[0] = echoVersion
	binary.BigEndian.PutUint64(data[1:], id)
	return &store.Blob{B: bundle.AppendPayload(nil, data)}
}

// isEcho reports whether the core itself takes what is for a service, with its
// custody.
func isEcho(service string) bool { return service == ServiceEcho || service == ServiceEchoed }

// takeEcho takes in a question or an answer. Neither is stored: with the
// custody of a question its answer is.
func (c *Core) takeEcho(h *store.Header, in *Incoming) {
	data, err := bundle.PayloadData(in.Blob.B)
	if err != nil || len(data) < echoedSize || data[0] != echoVersion {
		c.stats.EchoesDropped++
		return
	}
	if h.Service == ServiceEchoed {
		c.stats.EchoesHeard++
		c.cur.Echoes = append(c.cur.Echoes, Echoed{
			From: in.Origin, ID: binary.BigEndian.Uint64(data[1:]), Class: h.Class,
			There: data[9], Back: h.Hops, At: int64(binary.BigEndian.Uint64(data[10:])),
		})
		return
	}
	if in.Origin == c.cfg.Self || in.Life <= 0 || len(c.echoes.due) >= maxEchoesDue || c.table.Advert(in.Origin) == nil || !c.mayEcho(in.Origin) {
		c.stats.EchoesDropped++
		return
	}
	body := append(make([]byte, 0, echoedSize), data[:9]...)
	body = append(body, h.Hops)
	body = binary.BigEndian.AppendUint64(body, uint64(c.now))
	c.echoes.due = append(c.echoes.due, echoDue{in.Origin, h.Class, in.Life, body})
}

// mayEcho counts a question of a node and reports whether it is answered.
func (c *Core) mayEcho(from addr.Node) bool {
	e := &c.echoes
	spent := max(e.spent[from], c.now-echoBurst*echoEvery) + echoEvery
	if spent > c.now {
		return false
	}
	if e.spent == nil || len(e.spent) >= maxEchoNodes {
		e.spent = map[addr.Node]int64{} // they may all ask anew
	}
	e.spent[from] = spent
	return true
}

// answerEchoes sends the answers, in the batch with the custody of what they
// answer.
func (c *Core) answerEchoes() {
	due := c.echoes.due
	c.echoes.due = nil
	for _, d := range due {
		if c.submit(&Submission{
			To: d.to, Service: ServiceEchoed, Class: d.class, QoS: 1, TTL: time.Duration(d.life) * time.Millisecond,
			Blob: &store.Blob{B: bundle.AppendPayload(nil, d.body)},
		}) == bundle.OK {
			c.stats.EchoesAnswered++
		} else {
			c.stats.EchoesDropped++
		}
	}
}
