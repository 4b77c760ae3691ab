// Package identity holds the secret keys of a node and of an authority.
//
// It owns making, saving and loading these keys, and the dual signature
// (Ed25519 and ML-DSA-65, FIPS 204, both must hold) that they make. It never
// makes or checks certificates, never talks to the network and never decides
// whom to trust: crypto/pki does that, with the keys of this package.
//
// A node has one pair, an Ed25519 key for its TLS leaf and an ML-DSA-65 key
// whose hash the leaf certifies. An authority has three keys, none of which
// ever serves TLS: the Ed25519 root that signs certificates, and the pair that
// signs fleet revisions.
//
//	n, created, err := identity.LoadOrNew(dir) // dir/node.key, mode 0600
//	sig, err := n.Sign("farhop join request v1", message)
//	err = identity.DualVerify(n.Public(), "farhop join request v1", message, sig)
//
// Key files are PEM (PKCS #8; the ML-DSA key as its seed, RFC 9881) below a
// fingerprint line, so that a damaged file is noticed and not taken for
// another key. A file that others may read is refused, not repaired.
package identity
