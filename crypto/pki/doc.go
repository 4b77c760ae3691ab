// Package pki decides who belongs to a mesh, and proves it to others.
//
// It owns the trust bundle of a mesh, its authority and the authority's
// ledger, join tickets and join requests, node certificates, and the TLS
// configurations of every link. It never opens a connection, never reads a
// clock (every call takes its time) and never holds secret keys of its own:
// those are crypto/identity's. Callers are node/link (configurations and
// Peer), node (join, invite, the authority) and the CLI.
//
// Links. TLS 1.3 only, both sides with certificates, and X25519MLKEM768 as the
// one key exchange: a peer that offers less is refused, never downgraded to.
// All checks live in VerifyConnection, which unlike VerifyPeerCertificate also
// runs when a session is resumed. 0-RTT is the transport's switch and stays
// off.
//
// Names. A leaf carries the SPIFFE id spiffe://MESH/region/REGION/node/NAME
// and the SHA-256 of the node's ML-DSA-65 key; MESH is the mesh id in hex.
//
// Joining. An operator carries a ticket from `invite` to the new node:
//
//	ticket, err := ledger.Invite(pki.Invitation{Region: luna, Issuer: me, Addresses: addrs}, now)
//	text := ticket.Text()                                    // farhop1.…
//
//	ticket, err := pki.ParseTicket(text)                     // on the new node
//	conn := dial(ticket.Addresses, pki.JoinClientConfig(now))
//	trust, err := pki.ParseTrust(firstMessage)               // from the server
//	peer, err := pki.VerifyJoin(trust, ticket.Authority, addr.Node{}, conn.State(), now())
//	req, err := pki.NewRequest(keys, name, ticket.Region, ticket.ID)
//	send(ticket.ID, ticket.Secret.Prove(req), req.Encode())  // the secret itself never leaves
//
//	cert, err := ledger.Redeem(id, proof, req, now)          // on the authority
//
// Clocks. A node may wake up in 1970. Callers pass FloorClock, a clock that
// never reads less than the last signed time the node has seen. Because only
// the authority dates certificates, one that starts in the future proves a
// slow clock and not a bad certificate: verification takes the later of the
// two (see verifyChain). Expiry is always checked.
package pki
