package mqtt

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// counts are counters of a node by name and labels.
type counts map[string]float64

// refusals are the counters that tell of refusals and cuts.
func refusals() []string {
	return []string{
		"farhop_mqtt_connects_total", "farhop_mqtt_disconnects_total", "farhop_mqtt_publishes_refused_total",
		"farhop_mqtt_deliveries_dropped_total", "farhop_mqtt_limits_total",
	}
}

// counters reads those of a node.
func counters(ctx context.Context, admin string) (counts, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error
	for ctx.Err() == nil {
		c, err := scrape(ctx, admin)
		if err == nil {
			return c, nil
		}
		last = err
		_ = pause(ctx, 50*time.Millisecond)
	}
	return nil, fmt.Errorf("read the metrics of the node: %w", last)
}

func scrape(ctx context.Context, admin string) (counts, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET /metrics: %s", resp.Status)
	}
	out := counts{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			out[name] = v
		}
	}
	return out, lines.Err()
}

// since returns by how much those of refusals grew, without what is no refusal.
func (c counts) since(before counts) map[string]float64 {
	out := map[string]float64{}
	for name, v := range c {
		for _, want := range refusals() {
			rest, ok := strings.CutPrefix(name, want)
			if d := v - before[name]; ok && d > 0 && !strings.Contains(rest, `"ok"`) && !strings.Contains(rest, `"client"`) {
				out[strings.TrimPrefix(strings.TrimSuffix(want, "_total"), "farhop_mqtt_")+rest] = d
			}
		}
	}
	return out
}
