package node

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Services that carry joins through the mesh to the issuer and back.
const (
	ServiceJoin       = "join"
	ServiceJoinAnswer = "join-answer"
)

// joinTTL is how long a carried join is worth an answer.
const joinTTL = time.Hour

// admission serves newcomers: it redeems their tickets where the authority
// is, and elsewhere carries their requests to the node that issued them.
type admission struct {
	self   addr.Node
	trust  *pki.Trust
	ledger *pki.Ledger // nil where the authority is not
	loop   *loop
	log    *slog.Logger

	mu      sync.Mutex // guards waiting
	waiting map[string]chan joinAnswer
}

// carried is a join on its way through the mesh.
type carried struct {
	ID      string      `json:"id"`
	From    addr.Node   `json:"from"`
	Request joinRequest `json:"request"`
	Answer  *joinAnswer `json:"answer,omitempty"`
}

// serve is one newcomer's connection.
func (a *admission) serve(ctx context.Context, st *link.Stream, remote net.Addr, _ tls.ConnectionState) {
	if err := a.talk(ctx, st, remote); err != nil {
		a.log.Warn("a newcomer did not join", "address", remote, "error", err)
	}
}

func (a *admission) talk(ctx context.Context, st *link.Stream, remote net.Addr) error {
	r := bufio.NewReaderSize(st, maxJoinLine)
	if err := readLine(r, &struct{}{}); err != nil {
		return err
	}
	if err := writeLine(st, joinHello{a.trust.Encode()}); err != nil {
		return err
	}
	var req joinRequest
	if err := readLine(r, &req); err != nil {
		return err
	}
	ans := a.answer(ctx, req)
	if ans.Error == "" {
		a.log.Info("a node joined", "address", remote)
	}
	if err := writeLine(st, ans); err != nil {
		return err
	}
	if ans.Error != "" {
		return errors.New(ans.Error)
	}
	return nil
}

func (a *admission) answer(ctx context.Context, req joinRequest) joinAnswer {
	if a.ledger != nil && (req.Issuer == a.self || req.Issuer.IsZero()) {
		return a.redeem(req)
	}
	if req.Issuer == a.self || req.Issuer.IsZero() {
		return joinAnswer{Error: fmt.Sprintf("%s does not hold the authority and the ticket names no other issuer", a.self)}
	}
	return a.carry(ctx, req)
}

func (a *admission) redeem(req joinRequest) joinAnswer {
	r, err := pki.ParseRequest(req.Request)
	if err != nil {
		return joinAnswer{Error: err.Error()}
	}
	var proof pki.Proof
	if len(req.Proof) != len(proof) {
		return joinAnswer{Error: "the proof of the ticket has a wrong size"}
	}
	copy(proof[:], req.Proof)
	cert, err := a.ledger.Redeem(req.Ticket, proof, r, a.loop.clock.now())
	if err != nil {
		return joinAnswer{Error: err.Error()}
	}
	return joinAnswer{Cert: cert}
}

// carry sends a request to its issuer as a bundle and waits for the answer
// for as long as the newcomer does.
func (a *admission) carry(ctx context.Context, req joinRequest) joinAnswer {
	id := rand.Text()
	ch := make(chan joinAnswer, 1)
	a.mu.Lock()
	a.waiting[id] = ch
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.waiting, id)
		a.mu.Unlock()
	}()
	a.submit(req.Issuer, ServiceJoin, carried{ID: id, From: a.self, Request: req})
	select {
	case ans := <-ch:
		return ans
	case <-ctx.Done():
		return joinAnswer{Error: fmt.Sprintf("%s, which issued the ticket, did not answer in time; try again when it can be reached from %s", req.Issuer, a.self)}
	}
}

func (a *admission) submit(to addr.Node, service string, c carried) {
	body, err := json.Marshal(c)
	if err != nil {
		return
	}
	s := core.Submission{
		To: to, Service: service, Class: bundle.Control, QoS: 1, TTL: joinTTL,
		Blob: &store.Blob{B: bundle.AppendPayload(nil, body)},
	}
	a.loop.in.put(func(now time.Time, c *core.Core) { c.Submit(now, []core.Submission{s}) })
}

// request answers a join that was carried here.
func (a *admission) request(body []byte) {
	var c carried
	if err := json.Unmarshal(body, &c); err != nil || c.From.IsZero() {
		a.log.Warn("a carried join is malformed", "error", err)
		return
	}
	ans := joinAnswer{Error: fmt.Sprintf("%s does not hold the authority", a.self)}
	if a.ledger != nil {
		ans = a.redeem(c.Request)
	}
	c.Request, c.Answer = joinRequest{}, &ans
	a.submit(c.From, ServiceJoinAnswer, c)
}

// answered wakes the newcomer an answer is for, if it still waits.
func (a *admission) answered(body []byte) {
	var c carried
	if err := json.Unmarshal(body, &c); err != nil || c.Answer == nil {
		a.log.Warn("an answer to a join is malformed", "error", err)
		return
	}
	a.mu.Lock()
	ch := a.waiting[c.ID]
	a.mu.Unlock()
	if ch != nil {
		select {
		case ch <- *c.Answer:
		default:
		}
	}
}
