package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	hashes "hash"
	"strings"
	"testing"
	"time"
)

// signer is who issues tokens in tests.
type signer struct {
	rsa     *rsa.PrivateKey
	ecdsa   *ecdsa.PrivateKey
	ed25519 ed25519.PrivateKey
	secret  []byte
}

func newSigner(t testing.TB) *signer {
	t.Helper()
	r, err1 := rsa.GenerateKey(rand.Reader, 2048)
	e, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, d, err3 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return &signer{r, e, d, []byte(strings.Repeat("0123456789abcdef", 4))}
}

type object map[string]any

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func encode(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b64(b)
}

// sign makes a token.
func (s *signer) sign(t testing.TB, head, claims object) string {
	t.Helper()
	signed := encode(t, head) + "." + encode(t, claims)
	sum := sha256.Sum256([]byte(signed))
	mac := func(h func() hashes.Hash) []byte {
		m := hmac.New(h, s.secret)
		m.Write([]byte(signed))
		return m.Sum(nil)
	}
	var sig []byte
	var err error
	switch head["alg"] {
	case "HS256":
		sig = mac(sha256.New)
	case "HS384":
		sig = mac(sha512.New384)
	case "HS512":
		sig = mac(sha512.New)
	case "RS256":
		sig, err = rsa.SignPKCS1v15(rand.Reader, s.rsa, crypto.SHA256, sum[:])
	case "ES256":
		r, v, e := ecdsa.Sign(rand.Reader, s.ecdsa, sum[:])
		sig, err = append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...), e
	case "EdDSA":
		sig = ed25519.Sign(s.ed25519, []byte(signed))
	}
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(sig)
}

// pem is the file with the three public keys.
func (s *signer) pem(t testing.TB) string {
	t.Helper()
	var out strings.Builder
	for _, pub := range []any{&s.rsa.PublicKey, &s.ecdsa.PublicKey, s.ed25519.Public()} {
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		_ = pem.Encode(&out, &pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	return out.String()
}

func (s *signer) jwks(t testing.TB) string {
	t.Helper()
	point, err := s.ecdsa.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	set := object{"keys": []object{
		{"kty": "RSA", "kid": "r", "alg": "RS256", "use": "sig", "n": b64(s.rsa.N.Bytes()), "e": "AQAB"},
		{"kty": "EC", "kid": "e", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])},
		{"kty": "OKP", "kid": "d", "crv": "Ed25519", "x": b64(s.ed25519.Public().(ed25519.PublicKey))},
		{"kty": "oct", "kid": "s", "k": b64(s.secret)},
		{"kty": "RSA", "kid": "other", "use": "enc", "n": "AQAB", "e": "AQAB"},
		{"kty": "EC", "kid": "big", "crv": "P-521"},
	}}
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (f *fixture) token(a *Auth, token string) (*Identity, error) {
	return a.Chain.Authenticate(f.Context(), Client{ID: "c", Password: []byte(token)})
}

func TestTokenAlgorithms(t *testing.T) {
	f, s := newFixture(t), newSigner(t)
	files := map[string]string{"PEM": s.pem(t), "JWKS": s.jwks(t), "secret": string(s.secret) + "\n"}
	claims := object{"sub": "alice", "exp": f.now.Unix() + 60}
	for kind, text := range files {
		a := newFixture(t).auth(Config{JWT: JWT{Keys: f.file(kind, text)}})
		for _, alg := range []string{"HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"} {
			want := kind == "JWKS" || (kind == "secret") == strings.HasPrefix(alg, "HS")
			token := s.sign(t, object{"alg": alg, "typ": "JWT"}, claims)
			id, err := f.token(a, token)
			if (err == nil) != want || err == nil && id.User != "alice" {
				t.Errorf("%s by %s: %v", alg, kind, err)
			}
			if err != nil && !errors.Is(err, ErrRefused) {
				t.Errorf("%s by %s: not refused but %v", alg, kind, err)
			}
			if want {
				f.forged(a, token)
			}
		}
	}
}

// forged changes a good token in every way that must make it bad.
func (f *fixture) forged(a *Auth, token string) {
	f.Helper()
	parts := strings.Split(token, ".")
	flip := func(s string) string {
		b, _ := base64.RawURLEncoding.DecodeString(s)
		b[len(b)/2] ^= 1
		return b64(b)
	}
	for name, bad := range map[string]string{
		"signature":    parts[0] + "." + parts[1] + "." + flip(parts[2]),
		"no signature": parts[0] + "." + parts[1] + ".",
		"payload":      parts[0] + "." + encode(f, object{"sub": "root", "exp": f.now.Unix() + 60}) + "." + parts[2],
		"short":        parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])-4],
		"padded":       token + "==",
		"newline":      token[:len(token)-2] + "\n" + token[len(token)-2:],
		"none":         encode(f, object{"alg": "none"}) + "." + parts[1] + ".",
		"None":         encode(f, object{"alg": "None"}) + "." + parts[1] + "." + parts[2],
		"no algorithm": encode(f, object{"alg": ""}) + "." + parts[1] + "." + parts[2],
		"number":       encode(f, object{"alg": 1}) + "." + parts[1] + "." + parts[2],
		"four parts":   token + ".x",
	} {
		if _, err := f.token(a, bad); !errors.Is(err, ErrRefused) {
			f.Errorf("%s: %v (%s)", name, err, bad)
		}
	}
}

// TestAlgorithmConfusion signs with what is public: with the file of public
// keys, and with each key in it, as the secret of an HMAC.
func TestAlgorithmConfusion(t *testing.T) {
	f, s := newFixture(t), newSigner(t)
	text := s.pem(t)
	a := f.auth(Config{JWT: JWT{Keys: f.file("keys", text)}})
	der, err := x509.MarshalPKIXPublicKey(&s.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range [][]byte{[]byte(text), []byte(strings.TrimSpace(text)), der, s.rsa.N.Bytes(), nil, s.ed25519.Public().(ed25519.PublicKey)} {
		evil := &signer{secret: secret}
		for _, alg := range []string{"HS256", "HS384", "HS512"} {
			token := evil.sign(t, object{"alg": alg}, object{"sub": "root", "exp": f.now.Unix() + 60})
			if _, err := f.token(a, token); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "no key for algorithm") {
				t.Errorf("%s with a public key: %v", alg, err)
			}
		}
	}
	// A key that is for one algorithm is not used for another of its kind.
	jwks := fmt.Sprintf(`{"keys":[{"kty":"oct","alg":"HS512","k":%q}]}`, b64(s.secret))
	a = newFixture(t).auth(Config{JWT: JWT{Keys: f.file("jwks", jwks)}})
	for alg, want := range map[string]bool{"HS256": false, "HS512": true} {
		if _, err := f.token(a, s.sign(t, object{"alg": alg}, object{"exp": f.now.Unix() + 60})); (err == nil) != want {
			t.Errorf("%s: %v", alg, err)
		}
	}
	// HS512 with a secret that is too short for it (RFC 7518, 3.2).
	a = newFixture(t).auth(Config{JWT: JWT{Keys: f.file("short", strings.Repeat("k", 32))}})
	short := &signer{secret: []byte(strings.Repeat("k", 32))}
	for alg, want := range map[string]bool{"HS256": true, "HS384": false, "HS512": false} {
		if _, err := f.token(a, short.sign(t, object{"alg": alg}, object{"exp": f.now.Unix() + 60})); (err == nil) != want {
			t.Errorf("%s: %v", alg, err)
		}
	}
}

func TestKeyIDs(t *testing.T) {
	f, s := newFixture(t), newSigner(t)
	a := f.auth(Config{JWT: JWT{Keys: f.file("jwks", s.jwks(t))}})
	for _, c := range []struct {
		head object
		want string
	}{
		{object{"alg": "RS256", "kid": "r"}, ""},
		{object{"alg": "RS256"}, ""},
		{object{"alg": "RS256", "kid": "e"}, `no key for algorithm "RS256" and key id "e"`},
		{object{"alg": "RS256", "kid": "other"}, "no key for"},
		{object{"alg": "HS256", "kid": "s"}, ""},
		{object{"alg": "HS256", "kid": "r"}, "no key for"},
		{object{"alg": "RS256", "crit": []string{"x"}}, "extensions that are not known"},
		{object{"alg": "RS256", "jwk": object{"kty": "oct", "k": "AAAA"}}, ""}, // a key that the token brings is not looked at
	} {
		_, err := f.token(a, s.sign(t, c.head, object{"exp": f.now.Unix() + 60}))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.head, err, c.want)
		}
	}
}

// TestTokensOfTheRFCs takes the examples of RFC 7515, A.1 and A.3.
func TestTokensOfTheRFCs(t *testing.T) {
	const payload = ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
	f := newFixture(t)
	f.now = time.Unix(1300819379, 0)
	a := f.auth(Config{JWT: JWT{Issuer: "joe", Keys: f.file("jwks", `{"keys":[
		{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},
		{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`)}})
	for _, token := range []string{
		"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9" + payload + "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
		"eyJhbGciOiJFUzI1NiJ9" + payload + "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
	} {
		if _, err := f.token(a, token); err != nil {
			t.Errorf("%s: %v", token, err)
		}
	}
	f.advance(time.Second)
	if _, err := f.token(a, "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"+payload+"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"); !errors.Is(err, ErrRefused) {
		t.Errorf("after its time: %v", err)
	}
}

func TestKeyFileFaults(t *testing.T) {
	s := newSigner(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	public := func(pub any) string {
		der, err := x509.MarshalPKIXPublicKey(pub)
		return block("PUBLIC KEY", der, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(s.rsa)
	for _, c := range []struct{ name, text, want string }{
		{"short secret", "secret", "secret of 6 bytes; make one of at least 32"},
		{"empty", "", "secret of 0 bytes"},
		{"private key", block("PRIVATE KEY", private, err), "private keys stay with who issues the tokens"},
		{"small RSA", public(&small.PublicKey), "PEM block 1: RSA key of 1024 bits, want 2048 to 8192"},
		{"P-384", s.pem(t) + public(&p384.PublicKey), "PEM block 4: curve P-384, want P-256"},
		{"cut PEM", s.pem(t)[:200], "PEM block 1 cannot be read"},
		{"no key", `{"keys":[]}`, "no key for signatures"},
		{"no JWKS", `{"keys":1}`, "not a JWKS"},
		{"private JWK", `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA"}]}`, "keys[0]: is a private key"},
		{"off the curve", fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","x":%q,"y":%q}]}`, b64(make([]byte, 32)), b64(make([]byte, 32))), "keys[0]: x, y: "},
		{"even exponent", `{"keys":[{"kty":"RSA","n":"AQAB","e":"Ag"}]}`, "keys[0]: e: want an odd number"},
		{"short Ed25519", `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}`, "keys[0]: x has 3 bytes, want 32"},
		{"short oct", `{"keys":[{"kty":"oct","k":"AAAA"}]}`, "keys[0]: secret of 3 bytes"},
		{"many", `{"keys":[` + strings.Repeat(`{},`, 64) + `{}]}`, "65 keys, more than 64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseKeys("keys.txt", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "keys.txt: ") {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}
