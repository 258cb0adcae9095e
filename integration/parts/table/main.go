// Command table prints the account that package parts keeps of a run.
//
//	table FILE           prints it
//	table FILE MUST-RUN  also fails if a part that the list names, one a line,
//	                     took no part
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/rollout-sync/rollout/integration/parts"
)

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "usage: table FILE [MUST-RUN]")
		os.Exit(2)
	}
	if err := run(os.Stdout, os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(w io.Writer, file string, must []string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	sums := map[[2]string]parts.Entry{}
	missing := map[string]string{}
	took := map[string]bool{}
	for d := json.NewDecoder(bytes.NewReader(b)); ; {
		var e parts.Entry
		if err := d.Decode(&e); err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if e.Missing != "" {
			missing[e.Part] = e.Missing
			continue
		}
		took[e.Part] = true
		key := [2]string{e.Part, e.Version}
		s := sums[key]
		sums[key] = parts.Entry{Cases: s.Cases + e.Cases, Faults: s.Faults + e.Faults, Losses: s.Losses + e.Losses}
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "part\tversion\tcases\tfaults\tlosses\t")
	for _, key := range slices.SortedFunc(maps.Keys(sums), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	}) {
		s := sums[key]
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t\n", key[0], key[1], s.Cases, s.Faults, s.Losses)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, part := range slices.Sorted(maps.Keys(missing)) {
		fmt.Fprintf(w, "%s took no part: %s\n", part, missing[part])
	}
	for _, name := range must {
		if err := check(name, took); err != nil {
			return err
		}
	}
	return nil
}

// check returns an error if a part of the list took no part.
func check(list string, took map[string]bool) error {
	f, err := os.Open(list)
	if err != nil {
		return err
	}
	defer f.Close()
	var absent []string
	s := bufio.NewScanner(f)
	for s.Scan() {
		if part := strings.TrimSpace(s.Text()); part != "" && !strings.HasPrefix(part, "#") && !took[part] {
			absent = append(absent, part)
		}
	}
	if err := s.Err(); err != nil {
		return err
	}
	if len(absent) > 0 {
		return fmt.Errorf("%s: these must take part, and did not: %s", list, strings.Join(absent, ", "))
	}
	return nil
}
