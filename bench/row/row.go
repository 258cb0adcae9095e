// Package row has the results of the benchmarks as rows of one table: what is
// promised of rollout's speed, and what was measured in one run.
package row

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// A Sample is the values of one figure, a round each.
type Sample []float64

// Median returns the upper median; there has to be a value.
func (s Sample) Median() float64 { return slices.Sorted(slices.Values(s))[len(s)/2] }

// Over returns the ratios of each round.
func (s Sample) Over(t Sample) Sample {
	var r Sample
	for i := range min(len(s), len(t)) {
		r = append(r, s[i]/t[i])
	}
	return r
}

// String is the median, and of what it is the median.
func (s Sample) String() string {
	switch len(s) {
	case 0:
		return "-"
	case 1:
		return number(s[0])
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median()), number(slices.Min(s)), number(slices.Max(s)))
}

// number shows three digits, and all of those before the point.
func number(f float64) string {
	if f >= 100 || f == float64(int64(f)) {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.3g", f)
}

// A Bound is what is promised of a ratio; the zero Bound promises nothing.
type Bound struct {
	Sign  string // "≥" or "≤"
	Value float64
}

// AtLeast and AtMost return the promise of no less, and of no more.
func AtLeast(f float64) Bound { return Bound{"≥", f} }
func AtMost(f float64) Bound  { return Bound{"≤", f} }

func (b Bound) String() string {
	if b.Sign == "" {
		return "-"
	}
	return b.Sign + " " + number(b.Value)
}

// A Result is a line of the table. A row has one for each promise that it makes.
type Result struct {
	Row  int
	Work string

	Unit                string // of the following; empty for a mere number
	Ours, Peer, Limit   Sample
	PeerName, LimitName string // of the limit: the bare loop that was measured
	Missing             string // why there is no Peer
	Ratio               Sample // of which something is promised
	Promise             Bound
	Failed              string // why nothing was measured
}

// Met tells whether the median of the ratios is as promised.
func (r Result) Met() string {
	switch m := r.Ratio; {
	case r.Promise.Sign == "":
		return "-"
	case len(m) == 0:
		return "not measured"
	case r.Promise.Sign == "≥" && m.Median() >= r.Promise.Value, r.Promise.Sign == "≤" && m.Median() <= r.Promise.Value:
		return "yes"
	}
	return "NO"
}

// Print prints the table: of the figures their medians, of the ratios also the least
// and the most.
func Print(w io.Writer, results []Result) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "row\twork\tours\tpeer\tlimit\tratio\tpromised\tmet")
	for _, r := range results {
		if r.Failed != "" {
			fmt.Fprintf(table, "%d\tfailed: %s\t\t\t\t\t\tNO\n", r.Row, r.Failed)
			continue
		}
		figure := func(s Sample, name string) string {
			if len(s) == 0 {
				return "-"
			}
			text := number(s.Median())
			for _, more := range []string{r.Unit, name} {
				if more != "" {
					text += " " + more
				}
			}
			return text
		}
		peer := figure(r.Peer, r.PeerName)
		if r.Missing != "" {
			peer = r.PeerName + " missing: " + r.Missing
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Row, r.Work,
			figure(r.Ours, ""), peer, figure(r.Limit, r.LimitName), r.Ratio, r.Promise, r.Met())
	}
	return table.Flush()
}

// Collect is the environment variable that names a file to which Report appends.
const Collect = "ROLLOUT_BENCH_ROWS"

// Report prints results; if they are collected, it appends them to those of other
// programs instead.
func Report(results ...Result) error {
	name := os.Getenv(Collect)
	if name == "" {
		fmt.Println()
		return Print(os.Stdout, results)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	for _, r := range results {
		err = errors.Join(err, json.NewEncoder(f).Encode(r))
	}
	return errors.Join(err, f.Close())
}

// Read returns what Report has collected.
func Read(name string) (results []Result, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for d := json.NewDecoder(f); ; {
		var r Result
		if err := d.Decode(&r); err == io.EOF {
			return results, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		results = append(results, r)
	}
}
