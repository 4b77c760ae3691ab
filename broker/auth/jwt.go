package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	hashes "hash"
	"math/big"
	"slices"
	"strings"
	"time"
)

const maxToken = 16 << 10 // bytes

// tokens lets in whoever brings a signed token (JWT, RFC 7519, signed as RFC
// 7515) for a password. It follows RFC 8725: a key is for the algorithms of
// its kind alone, "none" is no algorithm, and issuer, audience and times are
// checked.
type tokens struct {
	cfg  JWT
	keys *watched[keys]
	now  func() time.Time
}

// Authenticate implements Authenticator. It does not know passwords that do
// not look like a token.
func (t *tokens) Authenticate(_ context.Context, c Client) (*Identity, error) {
	head, ok := tokenHead(c.Password)
	if !ok {
		return nil, ErrUnknown
	}
	refuse := func(err error) (*Identity, error) { return nil, fmt.Errorf("%w: token: %w", ErrRefused, err) }
	if len(c.Password) > maxToken {
		return refuse(fmt.Errorf("%d bytes, more than %d", len(c.Password), maxToken))
	}
	body, err := verify(*t.keys.get(), head, string(c.Password))
	if err != nil {
		return refuse(err)
	}
	claims, err := parseClaims(body)
	if err != nil {
		return refuse(err)
	}
	expires, err := t.checkTimes(claims)
	if err != nil {
		return refuse(err)
	}
	if err := t.checkParties(claims); err != nil {
		return refuse(err)
	}
	user, err := claims.text(t.cfg.userClaim())
	if err != nil {
		return refuse(err)
	}
	if err := t.checkClient(claims, c.ID); err != nil {
		return nil, fmt.Errorf("%w: token: %w", ErrNotAuthorized, err)
	}
	id := identity(c, user)
	id.Expires = expires
	if id.Attributes, err = parseAttributes(claims[t.cfg.attrClaim()]); err != nil {
		return refuse(fmt.Errorf("claim %s: %w", t.cfg.attrClaim(), err))
	}
	if id.Rules, err = parseGrants(claims[t.cfg.aclClaim()]); err != nil {
		return refuse(fmt.Errorf("claim %s: %w", t.cfg.aclClaim(), err))
	}
	return id, nil
}

// header is the JOSE header of a token (RFC 7515, 4.1). Its keys are looked up
// exactly as they are written.
type header map[string]json.RawMessage

func (h header) text(name string) string {
	var s string
	if json.Unmarshal(h[name], &s) != nil {
		return ""
	}
	return s
}

// tokenHead returns the header of what looks like a token: three parts, the
// first a JSON object with an "alg".
func tokenHead(password []byte) (header, bool) {
	s := string(password[:min(len(password), maxToken)])
	first, _, ok := strings.Cut(s, ".")
	if !ok || strings.Count(s, ".") != 2 {
		return nil, false
	}
	b, err := unbase64URL(first)
	if err != nil {
		return nil, false
	}
	var h header
	if json.Unmarshal(b, &h) != nil || h["alg"] == nil {
		return nil, false
	}
	return h, true
}

// verify checks the signature with the keys that are meant and returns the
// claims, undecoded.
func verify(ks keys, h header, token string) ([]byte, error) {
	if h["crit"] != nil || h["b64"] != nil {
		return nil, errors.New("its header asks for extensions that are not known (crit)")
	}
	alg, kid := h.text("alg"), h.text("kid")
	dot := strings.LastIndexByte(token, '.')
	signed := token[:dot]
	sig, err := unbase64URL(token[dot+1:])
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	tried := 0
	for _, k := range ks {
		if kid != "" && k.id != "" && k.id != kid || k.alg != "" && k.alg != alg || !k.is(alg) {
			continue
		}
		tried++
		if k.verify(alg, signed, sig) {
			_, payload, _ := strings.Cut(signed, ".")
			return unbase64URL(payload)
		}
	}
	if tried == 0 {
		return nil, fmt.Errorf("no key for algorithm %.20q and key id %.80q", alg, kid)
	}
	return nil, fmt.Errorf("signature (%s) is not by a known key", alg)
}

// is reports whether the key's kind is for the algorithm.
func (k *key) is(alg string) bool {
	switch alg {
	case "HS256", "HS384", "HS512":
		n := map[string]int{"HS256": sha256.Size, "HS384": sha512.Size384, "HS512": sha512.Size}[alg]
		return len(k.secret) >= n // RFC 7518, 3.2
	case "RS256":
		return k.rsa != nil
	case "ES256":
		return k.ecdsa != nil
	case "EdDSA":
		return k.ed25519 != nil
	}
	return false
}

func (k *key) verify(alg, signed string, sig []byte) bool {
	sum := sha256.Sum256([]byte(signed))
	switch alg {
	case "HS256":
		return k.hmac(sha256.New, signed, sig)
	case "HS384":
		return k.hmac(sha512.New384, signed, sig)
	case "HS512":
		return k.hmac(sha512.New, signed, sig)
	case "RS256":
		return rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, sum[:], sig) == nil
	case "ES256": // RFC 7518, 3.4: r and s, 32 bytes each
		return len(sig) == 64 && ecdsa.Verify(k.ecdsa, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	case "EdDSA":
		return ed25519.Verify(k.ed25519, []byte(signed), sig)
	}
	return false
}

func (k *key) hmac(h func() hashes.Hash, signed string, sig []byte) bool {
	mac := hmac.New(h, k.secret)
	mac.Write([]byte(signed))
	return hmac.Equal(mac.Sum(nil), sig)
}

// checkTimes returns when the token ends, zero for never.
func (t *tokens) checkTimes(c claims) (time.Time, error) {
	now, leeway := t.now(), time.Duration(t.cfg.Leeway)
	exp, hasExp, err := c.time("exp")
	if err != nil {
		return time.Time{}, err
	}
	nbf, hasNbf, err := c.time("nbf")
	if err != nil {
		return time.Time{}, err
	}
	iat, hasIat, err := c.time("iat")
	if err != nil {
		return time.Time{}, err
	}
	switch {
	case !hasExp && !t.cfg.Endless:
		return time.Time{}, errors.New("it never expires (no exp), and auth.jwt.endless is not set")
	case hasExp && !now.Before(exp.Add(leeway)):
		return time.Time{}, fmt.Errorf("it expired at %s", exp.UTC().Format(time.RFC3339))
	case hasNbf && now.Add(leeway).Before(nbf):
		return time.Time{}, fmt.Errorf("it is not valid before %s", nbf.UTC().Format(time.RFC3339))
	case hasIat && now.Add(leeway).Before(iat):
		return time.Time{}, fmt.Errorf("it was issued in the future, at %s; compare the clocks", iat.UTC().Format(time.RFC3339))
	case !hasExp:
		return time.Time{}, nil
	}
	return exp.Add(leeway), nil
}

// checkParties looks at who issued the token and for whom (RFC 7519, 4.1.3: a
// token for others is refused, also by those who have no name).
func (t *tokens) checkParties(c claims) error {
	if t.cfg.Issuer != "" {
		iss, err := c.text("iss")
		if err != nil {
			return err
		}
		if iss != t.cfg.Issuer {
			return fmt.Errorf("issuer %.200q, want %q", iss, t.cfg.Issuer)
		}
	}
	aud, err := c.list("aud")
	if err != nil {
		return err
	}
	if (t.cfg.Audience != "" || len(aud) > 0) && !slices.Contains(aud, t.cfg.Audience) {
		return fmt.Errorf("audience %.200q, want %q (auth.jwt.audience)", aud, t.cfg.Audience)
	}
	return nil
}

// checkClient compares the client id with those the token is for.
func (t *tokens) checkClient(c claims, id string) error {
	if t.cfg.ClientClaim == "" {
		return nil
	}
	ids, err := c.list(t.cfg.ClientClaim)
	if err != nil {
		return err
	}
	if id == "" || !slices.Contains(ids, id) {
		return fmt.Errorf("client id %.100q is not in claim %s (%.200q)", id, t.cfg.ClientClaim, ids)
	}
	return nil
}
