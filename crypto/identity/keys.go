package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
)

// Names of the files in a key directory.
const (
	NodeKeyFile  = "node.key"  // a node's pair
	RootKeyFile  = "root.key"  // an authority's Ed25519 root
	FleetKeyFile = "fleet.key" // an authority's fleet signing pair
)

// ErrExists is returned by Save when another key lies where the new one would
// go: keys are never overwritten.
var ErrExists = errors.New("another key is already there")

// Node is the identity of one node: the Ed25519 key of its TLS leaf and the
// ML-DSA-65 key whose hash that leaf certifies.
type Node struct{ *DualSigner }

// New makes the keys of a new node.
func New() *Node { return &Node{NewDualSigner()} }

// TLSKey is the key of the node's TLS leaf. It signs handshakes; everything
// else is signed by Sign or SignMLDSA.
func (n *Node) TLSKey() ed25519.PrivateKey { return n.ed }

// SignMLDSA signs msg for one use, named by context as in Sign, with the
// ML-DSA-65 key alone: for the proof inside a TLS session that the Ed25519 key
// has already signed. The result has 3309 bytes.
func (n *Node) SignMLDSA(context string, msg []byte) ([]byte, error) {
	if len(context) == 0 || len(context) > MaxContext {
		return nil, fmt.Errorf("sign: signature context of %d bytes, want 1 to %d", len(context), MaxContext)
	}
	sig := make([]byte, mldsa65.SignatureSize)
	if err := mldsa65.SignTo(n.ml, msg, []byte(context), true, sig); err != nil {
		return nil, fmt.Errorf("sign: ML-DSA-65: %w", err)
	}
	return sig, nil
}

// Save writes dir/node.key, making dir if needed. Saving the same keys again
// is no error; other keys are never overwritten (ErrExists).
func (n *Node) Save(dir string) error {
	return saveKey(dir, NodeKeyFile, "farhop node key", n.encode())
}

// Load reads dir/node.key. Errors: fs.ErrNotExist, ErrTooOpen, ErrCorrupt.
func Load(dir string) (*Node, error) {
	s, err := loadPair(filepath.Join(dir, NodeKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("this node has no keys yet (farhop init or farhop join makes them): %w", err)
	}
	if err != nil {
		return nil, err
	}
	return &Node{s}, nil
}

// LoadOrNew loads the keys in dir, or makes and saves new ones where there are
// none. A join that is tried again so presents the same keys.
func LoadOrNew(dir string) (n *Node, created bool, err error) {
	n, err = Load(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return n, false, err
	}
	n = New()
	return n, true, n.Save(dir)
}

// Authority is the secret half of a mesh's trust: what can admit nodes and
// sign revisions. The three keys are independent.
type Authority struct {
	Root  ed25519.PrivateKey // signs certificates, nothing else
	Fleet *DualSigner        // signs fleet revisions, nothing else
}

// NewAuthority makes the keys of a new authority.
func NewAuthority() *Authority {
	var seed [ed25519.SeedSize]byte
	rand.Read(seed[:])
	return &Authority{Root: ed25519.NewKeyFromSeed(seed[:]), Fleet: NewDualSigner()}
}

// RootPublic returns the public root key.
func (a *Authority) RootPublic() ed25519.PublicKey { return a.Root.Public().(ed25519.PublicKey) }

// Format hides the keys from every log, as DualSigner's does.
func (a *Authority) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "authority %v", a.Fleet) }

// Save writes dir/root.key and dir/fleet.key with the rules of Node.Save.
func (a *Authority) Save(dir string) error {
	root := encodeKeys(sha256.Sum256(a.RootPublic()), [][]byte{marshalEd25519(a.Root)})
	if err := saveKey(dir, RootKeyFile, "farhop authority root key", root); err != nil {
		return err
	}
	return saveKey(dir, FleetKeyFile, "farhop authority fleet key", a.Fleet.encode())
}

// LoadAuthority reads dir/root.key and dir/fleet.key. Errors as for Load, and
// ErrCorrupt when one key serves in both files.
func LoadAuthority(dir string) (*Authority, error) {
	path := filepath.Join(dir, RootKeyFile)
	data, err := ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("this node holds no authority (farhop init makes one; invite where it was run): %w", err)
	}
	if err != nil {
		return nil, err
	}
	blocks, want, err := decodeKeys(path, data, 1)
	if err != nil {
		return nil, err
	}
	root, err := parseEd25519(blocks[0])
	if err != nil {
		return nil, corrupt(path, err)
	}
	a := &Authority{Root: root}
	if sha256.Sum256(a.RootPublic()) != want {
		return nil, corrupt(path, errFingerprint)
	}
	if a.Fleet, err = loadPair(filepath.Join(dir, FleetKeyFile)); err != nil {
		return nil, err
	}
	if a.RootPublic().Equal(a.Fleet.Public().Ed25519) {
		return nil, corrupt(path, errors.New("root and fleet keys must differ, but this is the fleet key"))
	}
	return a, nil
}

func (s *DualSigner) encode() []byte {
	return encodeKeys(s.pub.Hash(), [][]byte{marshalEd25519(s.ed), marshalMLDSA(s.ml)})
}

func loadPair(path string) (*DualSigner, error) {
	data, err := ReadSecret(path)
	if err != nil {
		return nil, err
	}
	blocks, want, err := decodeKeys(path, data, 2)
	if err != nil {
		return nil, err
	}
	ed, err := parseEd25519(blocks[0])
	if err != nil {
		return nil, corrupt(path, err)
	}
	mlSeed, err := parseMLDSA(blocks[1])
	if err != nil {
		return nil, corrupt(path, err)
	}
	s := signerFromSeeds((*[ed25519.SeedSize]byte)(ed.Seed()), mlSeed)
	if s.pub.Hash() != want {
		return nil, corrupt(path, errFingerprint)
	}
	return s, nil
}

// saveKey writes one key file unless a different one is there.
func saveKey(dir, name, title string, body []byte) error {
	if err := MakeDir(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	data := append([]byte(title+", keep it secret\n"), body...)
	old, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(old, data):
		return nil
	case err == nil:
		return fmt.Errorf("save %s: %w; move it away first if it is no longer needed", path, ErrExists)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("save key: %w", err)
	}
	return WriteFile(path, data)
}
