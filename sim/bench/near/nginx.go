package near

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/farhop/farhop/sim/bench/proc"
)

// One process each, for one connection needs no more; buffers as large as those
// of our nodes, with which it is faster than with its own.
const nginxHead = `%sdaemon off;
master_process off;
error_log stderr warn;
pid %s/pid;
events { worker_connections 256; }
stream {
  proxy_buffer_size 64k;
  proxy_timeout 1h;
`

const nginxEnter = `  server {
    listen %s;
    proxy_pass %s;
    proxy_ssl on;
    proxy_ssl_protocols TLSv1.3;
    proxy_ssl_certificate %[3]s/enter.crt;
    proxy_ssl_certificate_key %[3]s/enter.key;
    proxy_ssl_trusted_certificate %[3]s/ca.crt;
    proxy_ssl_verify on;
    proxy_ssl_name leave;
  }
}
`

const nginxLeave = `  server {
    listen %s ssl;
    proxy_pass %s;
    ssl_protocols TLSv1.3;
    ssl_certificate %[3]s/leave.crt;
    ssl_certificate_key %[3]s/leave.key;
    ssl_client_certificate %[3]s/ca.crt;
    ssl_verify_client on;
  }
}
`

// nginx starts the pair with mutual TLS 1.3; nil when there is none.
func (b *bench) nginx(ctx context.Context) (*pair, error) {
	if b.Nginx == "" {
		return nil, nil
	}
	p := &pair{name: nameNginx}
	about, err := exec.CommandContext(ctx, b.Nginx, "-V").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s -V: %w", b.Nginx, err)
	}
	load := ""
	if m := regexp.MustCompile(`nginx version: nginx/(\S+)`).FindSubmatch(about); m != nil {
		p.version = string(m[1])
	}
	switch m := regexp.MustCompile(`--modules-path=(\S+)`).FindSubmatch(about); {
	case !strings.Contains(string(about), "--with-stream"):
		p.skipped = "it is built without its stream module"
		return p, nil
	case strings.Contains(string(about), "--with-stream=dynamic") && m != nil:
		file := filepath.Join(string(m[1]), "ngx_stream_module.so")
		if _, err := os.Stat(file); err != nil {
			p.skipped = "its stream module is not installed: " + err.Error()
			return p, nil
		}
		load = fmt.Sprintf("load_module %s;\n", file)
	}
	between, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	if p.at, err = proc.FreeAddr(); err != nil {
		return nil, err
	}
	for _, end := range []struct{ conf, at, to string }{{nginxLeave, between, b.server}, {nginxEnter, p.at, between}} {
		dir, err := b.folder(nameNginx)
		if err != nil {
			return nil, err
		}
		file := filepath.Join(dir, "nginx.conf")
		text := fmt.Sprintf(nginxHead, load, dir) + fmt.Sprintf(end.conf, end.at, end.to, b.certs)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
		prog, err := b.start(ctx, nameNginx, []string{b.Nginx}, "-p", dir, "-e", "stderr", "-c", file)
		if err != nil {
			return nil, err
		}
		p.parts = append(p.parts, prog)
		if err := listens(ctx, prog, end.at); err != nil {
			return nil, err
		}
	}
	return p, nil
}
