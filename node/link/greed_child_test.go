package link

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Greedy peers are processes of their own, so that what they cost a node can be
// told from what they cost themselves: this test binary, run with these.
const (
	greedEnv    = "FARHOP_LINK_GREED" // what it does
	greedDir    = "FARHOP_LINK_DIR"   // of its keys
	greedTarget = "FARHOP_LINK_TO"
	greedLayer  = "FARHOP_LINK_LAYER"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(greedEnv); what != "" {
		if err := greed(what, os.Getenv(greedTarget), Layer(os.Getenv(greedLayer))); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// greed is a member of the mesh that behaves badly until its input ends. It
// prints a line when it has done its worst.
func greed(what, to string, layer Layer) error {
	mat, err := pki.LoadMaterial(os.Getenv(greedDir))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	switch what {
	case "flood":
		err = greedyNode(ctx, mat, to, layer)
	default:
		err = greedyPeer(ctx, what, mat, to, layer)
	}
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// far says of a link that salvo carries, where the layer of a test is that.
func (l Layer) properties() Properties {
	p := Properties{Layer: l}
	if l == LayerSalvo {
		p.OWLT, p.Rate = time.Millisecond, 400_000_000
	}
	return p
}

// sunk is a sink that wants nothing.
type sunk struct{ up chan *Session }

func (s *sunk) LinkUp(n *Session)             { s.up <- n }
func (s *sunk) LinkDown(*Session, Down)       {}
func (s *sunk) Frames(*Session, []wire.Frame) {}

// greedyNode is a node that sends all it can, of every class.
func greedyNode(ctx context.Context, mat *pki.Material, to string, layer Layer) error {
	sink := &sunk{up: make(chan *Session, 16)}
	c := configOf(mat)
	c.Events, c.SendBudget, c.Peers = sink, 512<<20, []Peer{{Address: to, Link: layer.properties()}}
	m, err := New(c)
	if err != nil {
		return err
	}
	go func() { _ = m.Run(ctx) }()
	s := <-sink.up
	// So much passes while the node still reads, and opens the windows.
	const size, open, most = 1 << 20, 64, 400
	for xid := uint64(1); xid < most; xid++ {
		if !s.Send(wire.Transfer{Class: bundle.Class(xid % bundle.NumClasses), XID: xid, Bundle: make([]byte, size)}) {
			return fmt.Errorf("the session ended: %v", s.cause.Load())
		}
		if xid%8 == 0 && xid < open {
			until(func() bool { return s.Stats().Queued == 0 })
		}
	}
	steady(func() int64 { return int64(s.Stats().Queued) })
	return nil
}

// steady returns when a number has not changed for a while.
func steady(of func() int64) {
	for was, same := of(), 0; same < 20; same++ {
		time.Sleep(50 * time.Millisecond)
		if now := of(); now != was {
			was, same = now, 0
		}
	}
}

// greedyPeer is a connection that follows the protocol up to Hello.
func greedyPeer(ctx context.Context, what string, mat *pki.Material, to string, layer Layer) error {
	hello := wire.Hello{Version: wire.Version, Node: mat.Self().Node, Region: earth, Boot: 1, MaxFrame: wire.MaxFrame}
	if layer == LayerSalvo {
		hello.Salvo = wire.Salvo{Version: wire.SalvoVersion}
		layer = LayerQUIC
	}
	conn, err := bareCall(ctx, layer, to, pki.ClientConfig(mat, time.Now, addr.Node{}))
	if err != nil {
		return err
	}
	st, err := conn.OpenStream(ctx)
	if err != nil {
		return err
	}
	if _, err = st.Write(wire.Append(nil, hello)); err != nil {
		return err
	}
	switch what {
	case "deaf": // reads nothing
	case "streams":
		err = openAll(ctx, conn)
	case "frames":
		err = beginAll(ctx, conn)
	}
	return err
}

// openAll opens all streams that it may, and says on each that something comes.
func openAll(ctx context.Context, conn carrier) error {
	for n := 0; ; n++ {
		octx, cancel := context.WithTimeout(ctx, 2*time.Second)
		st, err := conn.OpenStream(octx)
		cancel()
		if err != nil && n < 1000 {
			return fmt.Errorf("%d streams: %w", n, err)
		}
		if err != nil {
			return nil // as many as may be
		}
		if _, err := st.Write([]byte{200}); err != nil {
			return err
		}
	}
}

// beginAll begins a largest frame on each stream that goes one way, and ends
// none.
func beginAll(ctx context.Context, conn carrier) error {
	whole := wire.Append(nil, wire.Transfer{Class: bundle.Bulk, XID: 1, Bundle: make([]byte, wire.MaxFrame-100)})
	for range numLanes - 1 {
		st, err := conn.OpenUni(ctx)
		if err != nil {
			return err
		}
		if _, err := st.Write(whole[:len(whole)-1]); err != nil {
			return err
		}
	}
	return nil
}
