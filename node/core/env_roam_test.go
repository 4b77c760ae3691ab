package core_test

import (
	"fmt"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// takenOver plays a broker whose client is at another node now.
func (n *enode) takenOver(t core.TakenOver) {
	n.e.printf("%s: %s is at another node now", n.name, t.Client)
	d := n.device(t.Client)
	if d.conn != 0 && d.conn == t.Conn {
		d.conn, d.todo = 0, nil
		if n.e.onTaken != nil {
			n.e.onTaken(n, t.Client)
		}
	}
}

// connectToken asks for the answer to a CONNECT where somebody wants to know.
func (n *enode) connectToken(client string) uint64 {
	if !n.e.answers && n.e.value("will", "") == "" {
		return 0
	}
	t := n.newToken("connect %s", client)
	n.connects[t] = connecting{client: client, conn: n.device(client).conn}
	return t
}

// connecting is a CONNECT that is not answered.
type connecting struct {
	client  string
	conn    uint64
	present bool
}

// answered plays the broker that answers a CONNECT.
func (n *enode) answered(r core.Reply) {
	c, ok := n.connects[r.Token]
	delete(n.connects, r.Token)
	if !ok || r.Reason != bundle.OK || n.device(c.client).conn != c.conn || n.e.onConnack == nil {
		return
	}
	if r.Session != nil {
		c.present = r.Session.Present
	}
	n.e.onConnack(n, c.client, c.present)
}

// roam takes in what another node says of sessions that move.
func (n *enode) roam(d core.Delivery) {
	data := n.body(d)
	if err := n.core.Roam(n.now(), d.Header.Origin, data); err != nil {
		panic(err)
	}
	n.core.Settle(n.now(), []core.Settlement{{Service: d.Service, Conn: d.Conn, Seq: d.Header.Seq}})
	n.pump()
}

// roamOf names what a bundle says of sessions that move.
func roamOf(b *store.Blob) string {
	data, err := bundle.PayloadData(b.B)
	if err != nil {
		panic(err)
	}
	if len(data) == 0 {
		return "fence"
	}
	if k := int(data[1]); k < 6 {
		return []string{"?", "claims", "answer", "heads", "tail", "fence?"}[k]
	}
	return fmt.Sprint("kind ", data[1])
}

func (e *env) cmdAnswers() { e.answers = true }

// runLater does what was put off.
func (e *env) runLater() {
	for len(e.later) > 0 {
		f := e.later[0]
		e.later = e.later[1:]
		f()
	}
}
