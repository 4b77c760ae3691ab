package mqtt

import "fmt"

func (w *Workload) add(broker string, x Round) {
	if broker == "farhop" {
		w.All = append(w.All, x)
	} else {
		w.AllPeer = append(w.AllPeer, x)
	}
}

// finish fills in medians, sums and ratios.
func (w *Workload) finish() error {
	var rates, cpus, generator, busy, peerRates, peerCPUs, rateRatios, cpuRatios []float64
	for _, x := range w.All {
		w.Lost += x.Lost
		w.Wrong += x.Wrong
		if x.Stalled {
			w.Stalled++
			continue
		}
		rates, cpus = append(rates, x.Rate), append(cpus, x.CPU)
		generator, busy = append(generator, x.Generator), append(busy, x.Busy)
	}
	for i, x := range w.AllPeer {
		w.PeerLost += x.Lost
		w.PeerWrong += x.Wrong
		if x.Stalled {
			w.PeerStalled++
			continue
		}
		peerRates, peerCPUs = append(peerRates, x.Rate), append(peerCPUs, x.CPU)
		if own := w.All[i]; !own.Stalled {
			rateRatios, cpuRatios = append(rateRatios, ratio(own.Rate, x.Rate)), append(cpuRatios, ratio(own.CPU, x.CPU))
		}
	}
	w.Rate, w.CPU, w.Generator, w.Busy = median(rates), median(cpus), median(generator), median(busy)
	w.PeerRate, w.PeerCPU = median(peerRates), median(peerCPUs)
	w.RateRatio, w.CPURatio = median(rateRatios), median(cpuRatios)
	if w.Lost+w.Wrong > 0 || w.Stalled > 0 {
		return fmt.Errorf("%s: %w: %d lost, %d repeated or out of order, stalled in %d of %d rounds",
			w.Name, ErrUnfaithful, w.Lost, w.Wrong, w.Stalled, len(w.All))
	}
	return nil
}
