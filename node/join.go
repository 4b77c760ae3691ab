package node

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/routing/addr"
)

// JoinOptions are what farhop join takes. Empty addresses mean the defaults;
// Via replaces the addresses of the ticket.
type JoinOptions struct {
	Dir, Ticket, Via, Name, MQTT, Mesh, Admin string
	Progress                                  func(string) // told what is being tried; may be nil
}

// errKeep marks failures after the request was sent: the key stays, so that
// joining again with the same ticket gets the same certificate.
var errKeep = errors.New("run the same command again")

// The messages of a join, one JSON line each. The first, from the server, is
// the mesh's trust bundle.
type (
	joinHello struct {
		Trust []byte `json:"trust"`
	}
	joinRequest struct {
		Ticket  pki.TicketID `json:"ticket"`
		Issuer  addr.Node    `json:"issuer"`
		Proof   []byte       `json:"proof"`
		Request []byte       `json:"request"`
	}
	joinAnswer struct {
		Cert  []byte `json:"cert,omitempty"`
		Error string `json:"error,omitempty"`
	}
)

// maxJoinLine bounds one message of a join.
const maxJoinLine = 64 << 10

// Join makes this node a member of the mesh that issued a ticket.
func Join(ctx context.Context, o JoinOptions) (Created, error) {
	ticket, err := pki.ParseTicket(strings.TrimSpace(o.Ticket))
	if err != nil {
		return Created{}, err
	}
	var name addr.Node
	if o.Name != "" {
		if name, err = addr.ParseNode(o.Name); err != nil {
			return Created{}, fmt.Errorf("--name: %w", err)
		}
	}
	cfg, err := configFor(name, ticket.Region, o.MQTT, o.Mesh, o.Admin)
	if err != nil {
		return Created{}, err
	}
	// Whether the ticket has expired is for the issuer to say: this machine's
	// clock may be anything.
	clock := newClock(ticket.IssuedAt)
	addresses := ticket.Addresses
	if o.Via != "" {
		addresses = []string{o.Via}
	}
	if len(addresses) == 0 {
		return Created{}, errors.New("the ticket names no address; say where a node of the mesh is with --via HOST:PORT")
	}
	return build(o.Dir, ".join", func(dir string) (Created, error) {
		j := joiner{ticket: ticket, name: name, clock: clock, progress: o.Progress}
		return j.into(ctx, dir, addresses, cfg)
	})
}

type joiner struct {
	ticket   *pki.Ticket
	name     addr.Node
	clock    *clock
	keys     *identity.Node
	progress func(string)
}

func (j *joiner) into(ctx context.Context, dir string, addresses []string, cfg config.Config) (Created, error) {
	var err error
	if j.keys, _, err = identity.LoadOrNew(filepath.Join(dir, identityDir)); err != nil {
		return Created{}, err
	}
	var failures []error
	for _, a := range addresses {
		if j.progress != nil {
			j.progress("joining through " + a)
		}
		cert, trust, err := j.through(ctx, a)
		if err == nil {
			var peer config.HostPort
			if err := peer.UnmarshalText([]byte(a)); err != nil {
				return Created{}, err
			}
			cfg.Peers = []config.Peer{{Address: peer}}
			return finish(dir, j.keys, cert, trust, cfg)
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	return Created{}, errors.Join(failures...)
}

// through joins by way of one address.
func (j *joiner) through(ctx context.Context, address string) (cert []byte, trust *pki.Trust, err error) {
	req, err := pki.NewRequest(j.keys, j.name, j.ticket.Region, j.ticket.ID)
	if err != nil {
		return nil, nil, err
	}
	err = link.DialJoin(ctx, address, pki.JoinClientConfig(j.clock.now), func(st *link.Stream, state tls.ConnectionState) error {
		// The server speaks on the stream we open: a line of ours makes it exist.
		if err := writeLine(st, struct{}{}); err != nil {
			return err
		}
		r := bufio.NewReaderSize(st, maxJoinLine)
		var hello joinHello
		if err := readLine(r, &hello); err != nil {
			return fmt.Errorf("read the trust bundle: %w", err)
		}
		if trust, err = pki.ParseTrust(hello.Trust); err != nil {
			return err
		}
		if _, err := pki.VerifyJoin(trust, j.ticket.Authority, addr.Node{}, state, j.clock.now()); err != nil {
			return err
		}
		proof := j.ticket.Secret.Prove(req)
		if err := writeLine(st, joinRequest{j.ticket.ID, j.ticket.Issuer, proof[:], req.Encode()}); err != nil {
			return err
		}
		var ans joinAnswer
		if err := readLine(r, &ans); err != nil {
			return fmt.Errorf("wait for the certificate: %w; %w", err, errKeep)
		}
		if ans.Error != "" {
			return errors.New(ans.Error)
		}
		cert = ans.Cert
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("join through %s: %w", address, err)
	}
	return cert, trust, nil
}

func writeLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

func readLine(r *bufio.Reader, v any) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return cmp.Or(lineTooLong(err), err)
	}
	return json.Unmarshal(line, v)
}

func lineTooLong(err error) error {
	if errors.Is(err, bufio.ErrBufferFull) {
		return fmt.Errorf("a message of more than %d bytes", maxJoinLine)
	}
	return nil
}
