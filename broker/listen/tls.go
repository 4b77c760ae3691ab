package listen

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	alpn         = "mqtt"      // registered with IANA, and what MQTT over QUIC uses
	lookInterval = time.Second // at most this often are files looked at
)

// Files are a server's certificate and the authority of its clients, in PEM.
type Files struct {
	Cert, Key string
	ClientCA  string // "" = clients show no certificate
	Require   bool   // clients must show one; needs ClientCA
	Log       *slog.Logger
}

// ServerTLS is Files.Config without a log.
func ServerTLS(certFile, keyFile, clientCAFile string, require bool) (*tls.Config, error) {
	return Files{Cert: certFile, Key: keyFile, ClientCA: clientCAFile, Require: require}.Config()
}

// Config reads the files. When one of them changes, connections from then on
// see the change and those that are open stay. Files that cannot be used leave
// the last good ones in force, with a warning in the log.
//
// TLS 1.2 is the lowest version: many modems and microcontrollers in the field
// have no TLS 1.3 and never will, and with the suites that Go leaves enabled
// (forward secret, AEAD first) 1.2 is not broken. 1.0 and 1.1 are (RFC 8996).
func (f Files) Config() (*tls.Config, error) {
	f = f.withLog()
	if f.Require && f.ClientCA == "" {
		return nil, errors.New("tls: client certificates are required, but no authority for them is named")
	}
	r := &reloader{files: f, stamp: f.stamp(), looked: time.Now()}
	var err error
	if r.conf, err = f.load(); err != nil {
		return nil, err
	}
	base := r.conf.Clone()
	// The keys of session tickets stay with base, so a session is resumed after
	// a change as well; the client's chain is verified again then.
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return r.current(time.Now()), nil
	}
	return base, nil
}

func (f Files) withLog() Files {
	if f.Log == nil {
		f.Log = slog.New(slog.DiscardHandler)
	}
	return f
}

func (f Files) load() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("tls: certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if f.ClientCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(f.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("tls: authority of clients: %w", err)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls: authority of clients: %s holds no certificate in PEM", f.ClientCA)
	}
	c.ClientAuth = tls.VerifyClientCertIfGiven
	if f.Require {
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c, nil
}

// stamp tells one state of the files from the next.
type stamp [3]struct {
	at   time.Time
	size int64
}

func (f Files) stamp() stamp {
	var s stamp
	for i, name := range []string{f.Cert, f.Key, f.ClientCA} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			s[i].at, s[i].size = info.ModTime(), info.Size()
		}
	}
	return s
}

// reloader keeps the configuration that the files hold.
type reloader struct {
	files Files

	mu     sync.Mutex // guards what follows
	conf   *tls.Config
	stamp  stamp
	looked time.Time
}

// current looks at the files if it is time.
func (r *reloader) current(now time.Time) *tls.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.looked) < lookInterval {
		return r.conf
	}
	r.looked = now
	s := r.files.stamp()
	if s == r.stamp {
		return r.conf
	}
	// Noted before it is known to be good: of a certificate and a key that are
	// replaced one after the other, the second changes the stamp again.
	r.stamp = s
	c, err := r.files.load()
	if err != nil {
		r.files.Log.Warn("tls files changed and cannot be used; the last good ones stay", "err", err)
		return r.conf
	}
	r.conf = c
	r.files.Log.Info("tls files changed and are in use", "cert", r.files.Cert)
	return r.conf
}

// forKind is c as a listener of a kind needs it, wherever c gets its
// configuration from.
func forKind(c *tls.Config, kind string) *tls.Config {
	c = adapt(c, kind)
	if per := c.GetConfigForClient; per != nil {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			got, err := per(hello)
			if err != nil || got == nil {
				return nil, err
			}
			return adapt(got, kind), nil
		}
	}
	return c
}

func adapt(c *tls.Config, kind string) *tls.Config {
	c = c.Clone()
	switch kind {
	case QUIC:
		c.MinVersion = tls.VersionTLS13 // RFC 9001, 4.2
		c.NextProtos = []string{alpn}   // required, RFC 9001, 8.1
		if len(c.CurvePreferences) == 0 {
			// Traffic recorded today stays closed to the quantum computer of
			// tomorrow where the client can do it; of what both know, Go takes
			// the post-quantum one first. Small devices that have the classic
			// ones alone are served all the same.
			c.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384}
		}
	default:
		// Without protocols of ours no client is refused for those it names:
		// some name mqtt, some cloud's own, browsers h2, which we do not speak.
		c.NextProtos = nil
	}
	return c
}
