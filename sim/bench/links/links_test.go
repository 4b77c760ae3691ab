package links

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/link"
)

// TestRun moves a little over each layer; what part of the link it fills says
// something in a longer run only.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		name string
		Config
		layer link.Layer
	}{
		{"quic, a perfect wire", Config{Bytes: 1 << 20}, link.LayerQUIC},
		{"auto, far and lossy", Config{Delay: 110 * time.Millisecond, Rate: 20e6, Loss: 0.02, Bytes: 1 << 20, Seed: 3}, link.LayerSalvo},
		{"tls, a perfect wire", Config{Layer: link.LayerTLS, Bytes: 1 << 20}, link.LayerTLS},
		{"tls, a rate", Config{Layer: link.LayerTLS, Delay: 5 * time.Millisecond, Rate: 50e6, Bytes: 1 << 20}, link.LayerTLS},
		{"salvo, a thin way back", Config{Layer: link.LayerSalvo, Delay: 10 * time.Millisecond, Rate: 20e6, Return: 100e3, Bytes: 1 << 20}, link.LayerSalvo},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Run(t.Context(), c.Config, t.Logf)
			if err != nil {
				t.Fatal(err)
			}
			if !r.SHA256 || r.Layer != c.layer || r.Bytes != 1<<20 || r.Seconds <= 0 || r.Goodput <= 0 || r.Reverse == 0 || r.Unreal > 0 {
				t.Errorf("got %+v", r)
			}
			if c.Rate > 0 && (r.Share <= 0 || r.Share > 1) || c.Rate == 0 && r.Share != 0 {
				t.Errorf("share %v of a rate of %d", r.Share, c.Rate)
			}
			text, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"layer", "delay_ms", "loss", "rate_mbit", "return_mbit", "bytes", "seconds", "goodput_mbit", "share_of_link", "reverse_bytes", "sha256_ok"} {
				if !strings.Contains(string(text), `"`+key+`":`) {
					t.Errorf("no %s in %s", key, text)
				}
			}
		})
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		Config
		want string
	}{
		{Config{Bytes: 10}, "bytes: 10 is not between"},
		{Config{Bytes: 1 << 20, Layer: link.LayerSalvo}, "needs the rate"},
		{Config{Bytes: 1 << 20, Layer: link.LayerTLS, Loss: 0.01}, "nothing of layer tls"},
		{Config{Bytes: 1 << 20, Rate: 1e6, Loss: 0.9}, "loss 0.9"},
		{Config{Bytes: 1 << 20, Layer: "pigeon"}, `layer "pigeon"`},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %q", c.Config, err, c.want)
		}
	}
}
