package packet

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// SecretLen is the length of the secret that an association begins with.
	SecretLen = 32
	// epochBits: each 2^22 packets have a key of their own, half of what RFC
	// 9001, section 6.6, allows for AES-GCM.
	epochBits = 22

	keyLen = 16
	ivLen  = 12
)

// Labels of the key derivation.
const (
	labelExtract = "farhop salvo 1"
	labelTraffic = "traffic"
	labelKey     = "key"
	labelIV      = "iv"
	labelNext    = "next"
)

// Keys are the keys of one kind of packet of one direction of an association.
type Keys struct {
	first       byte
	association uint32
	secret      [SecretLen]byte // of epoch 0
}

// Derive derives the keys for packets of a kind and direction. secret is what
// both ends got from their handshake (RFC 8446, section 7.5: an exporter);
// incarnation is that of the sender of the blocks, so that two ends which do
// not agree on it understand nothing of each other.
func Derive(secret []byte, association uint32, incarnation uint64, d Direction, k Kind) (Keys, error) {
	if len(secret) != SecretLen {
		return Keys{}, fmt.Errorf("salvo keys: the secret has %d bytes, not %d", len(secret), SecretLen)
	}
	if d > Backward || k > Report {
		return Keys{}, fmt.Errorf("salvo keys: no direction %d or kind %d", d, k)
	}
	prk, err := hkdf.Extract(sha256.New, secret, []byte(labelExtract))
	if err != nil {
		return Keys{}, fmt.Errorf("salvo keys: %w", err)
	}
	info := append([]byte(labelTraffic), first(k, d))
	info = binary.BigEndian.AppendUint32(info, association)
	info = binary.BigEndian.AppendUint64(info, incarnation)
	keys := Keys{first: first(k, d), association: association}
	traffic, err := hkdf.Expand(sha256.New, prk, string(info), SecretLen)
	if err != nil {
		return Keys{}, fmt.Errorf("salvo keys: %w", err)
	}
	copy(keys.secret[:], traffic)
	return keys, nil
}

// epoch is the key of the packets whose number >> epochBits is index.
type epoch struct {
	index  uint64
	aead   cipher.AEAD
	iv     [ivLen]byte
	secret [SecretLen]byte
}

func newEpoch(index uint64, secret [SecretLen]byte) (epoch, error) {
	key, err1 := hkdf.Expand(sha256.New, secret[:], labelKey, keyLen)
	iv, err2 := hkdf.Expand(sha256.New, secret[:], labelIV, ivLen)
	if err := errors.Join(err1, err2); err != nil {
		return epoch{}, fmt.Errorf("salvo keys: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return epoch{}, fmt.Errorf("salvo keys: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return epoch{}, fmt.Errorf("salvo keys: %w", err)
	}
	e := epoch{index: index, aead: aead, secret: secret}
	copy(e.iv[:], iv)
	return e, nil
}

// next returns the epoch after e.
func (e *epoch) next() (epoch, error) {
	b, err := hkdf.Expand(sha256.New, e.secret[:], labelNext, SecretLen)
	if err != nil {
		return epoch{}, fmt.Errorf("salvo keys: %w", err)
	}
	return newEpoch(e.index+1, [SecretLen]byte(b))
}

// nonce is the iv with the packet number, 64 bits big-endian, xored into its
// end, as in RFC 9001, section 5.3.
func (e *epoch) nonce(dst *[ivLen]byte, number uint64) []byte {
	*dst = e.iv
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], number)
	for i, b := range n {
		dst[ivLen-8+i] ^= b
	}
	return dst[:]
}
