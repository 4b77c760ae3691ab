package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/farhop/farhop/broker/auth"
	"github.com/farhop/farhop/node/config"
)

// checkFront is a config.Check: what the packages of the front find in their
// configurations. It opens no file.
func checkFront(c config.Config) []config.Fault {
	var out []config.Fault
	for i, l := range c.MQTT.Listeners {
		lc := listenConfig(l, c.MQTT.MaxPacket)
		if l.Cert != "" {
			lc.TLS = placeholder()
		}
		for _, text := range lines(lc.Validate()) {
			field, problem := "url", text
			if rest, ok := strings.CutPrefix(text, "listen "+l.URL+": "); ok {
				field, problem, _ = strings.Cut(rest, ": ")
			} else if rest, ok := strings.CutPrefix(text, fmt.Sprintf("listen url %q: ", l.URL)); ok {
				problem = fmt.Sprintf("%.200q: %s", l.URL, rest)
			}
			if field == "tls" {
				field = "cert"
			}
			out = append(out, config.Fault{Field: fmt.Sprintf("mqtt.listeners[%d].%s", i, field), Problem: problem})
		}
	}
	for _, f := range authConfig(c).Faults() {
		out = append(out, config.Fault{Field: "mqtt.auth." + f.Field, Problem: f.Problem})
	}
	for i, b := range c.MQTT.Bridges {
		bc := bridgeConfig(c, b)
		if bc.Domain == "" {
			bc.Domain = "the-mesh"
		}
		for _, text := range lines(bc.Validate()) {
			field, problem := text, ""
			if at := strings.IndexAny(text, " :"); at >= 0 {
				field, problem = text[:at], strings.TrimLeft(text[at:], " :")
			}
			if also, ok := strings.CutPrefix(problem, "and "); ok {
				problem = "with " + also
			}
			out = append(out, config.Fault{Field: fmt.Sprintf("mqtt.bridges[%d].%s", i, field), Problem: problem})
		}
	}
	return out
}

// lines takes joined errors apart.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		var out []string
		for _, one := range all.Unwrap() {
			out = append(out, lines(one)...)
		}
		return out
	}
	return []string{err.Error()}
}

// checkFiles is a config.Check: it reads the files that c.MQTT names.
func checkFiles(c config.Config) []config.Fault {
	var out []config.Fault
	add := func(field string, err error) {
		if err != nil {
			out = append(out, config.Fault{Field: field, Problem: err.Error()})
		}
	}
	for i, l := range c.MQTT.Listeners {
		if l.Cert == "" || l.Key == "" {
			continue
		}
		files := tlsFiles(c, l, nil)
		field := fmt.Sprintf("mqtt.listeners[%d].", i)
		files.ClientCA, files.Require = "", false
		_, err := files.Config()
		add(field+"cert", err)
		if err == nil && l.ClientCA != "" {
			_, err := tlsFiles(c, l, nil).Config()
			add(field+"client_ca", err)
		}
	}
	a := authConfig(c)
	for _, part := range []struct {
		field, named string // in the file, in errors of package auth
		auth.Config
	}{
		{"mqtt.users", "users", auth.Config{Users: a.Users}},
		{"mqtt.auth.jwt.keys", "jwt.keys", auth.Config{JWT: auth.JWT{Keys: a.JWT.Keys}}},
		{"mqtt.auth.http.ca", "http", auth.Config{HTTP: httpFile(a.HTTP)}},
		{"mqtt.auth.acl", "acl", auth.Config{ACL: a.ACL}},
	} {
		made, err := auth.New(part.Config, auth.Deps{})
		if err == nil {
			made.Close()
			continue
		}
		add(part.field, errors.New(strings.TrimPrefix(err.Error(), part.named+": ")))
	}
	for i, b := range c.MQTT.Bridges {
		checkBridgeFiles(c, b, func(field string, err error) { add(fmt.Sprintf("mqtt.bridges[%d].%s", i, field), err) })
	}
	return out
}

// httpFile leaves of the server that is asked what has a file.
func httpFile(h auth.HTTP) auth.HTTP {
	if h.URL == "" || h.CA == "" {
		return auth.HTTP{}
	}
	return auth.HTTP{URL: "https://localhost/", CA: h.CA}
}

func checkBridgeFiles(c config.Config, b config.Bridge, add func(field string, err error)) {
	for _, l := range []struct{ field, file string }{
		{"remote.password_file", b.Remote.PasswordFile}, {"local.password_file", b.Local.PasswordFile},
	} {
		if l.file != "" {
			_, err := os.ReadFile(c.Path(l.file))
			add(l.field, err)
		}
	}
	t := b.Remote.TLS
	if t.CA != "" {
		pem, err := os.ReadFile(c.Path(t.CA))
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			err = fmt.Errorf("%s holds no certificate in PEM", c.Path(t.CA))
		}
		add("remote.tls.ca", err)
	}
	if t.Cert != "" && t.Key != "" {
		_, err := tls.LoadX509KeyPair(c.Path(t.Cert), c.Path(t.Key))
		add("remote.tls.cert", err)
	}
}
