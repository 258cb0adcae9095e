package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/rollout-sync/rollout/mirror"
)

// metricsOf parses a metrics file, as Prometheus does.
func metricsOf(t *testing.T, file string) map[string]*dto.MetricFamily {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(f)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// value returns the value of a metric that has no label action, or of that action.
func value(t *testing.T, families map[string]*dto.MetricFamily, name, action string) float64 {
	t.Helper()
	for _, m := range families["rollout_sync_"+name].GetMetric() {
		got := ""
		for _, l := range m.GetLabel() {
			if l.GetName() == "action" {
				got = l.GetValue()
			}
		}
		if got == action {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Errorf("there is no %s %s", name, action)
	return 0
}

// The metrics file is replaced at the end of each push, and of one that failed, and says
// how it went. docs/operations.md has the metrics with their types, and no others.
func TestMetricsFile(t *testing.T) {
	t.Parallel()
	tr := newTree(t, 6) // 40 sessions were pushed
	dir := t.TempDir()
	file := filepath.Join(dir, "rollout-sync.prom")
	push := func(code int, args ...string) map[string]*dto.MetricFamily {
		t.Helper()
		tr.run(code, append([]string{"push", "--idle", "0s", "--metrics-file", file}, args...)...)
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("beside the file there are %v, %v", entries, err)
		}
		return metricsOf(t, file)
	}
	is := func(families map[string]*dto.MetricFamily, want map[string]float64) {
		t.Helper()
		for name, want := range want {
			name, action, _ := strings.Cut(name, "/")
			if got := value(t, families, name, action); got != want {
				t.Errorf("%s %s is %v, want %v", name, action, got, want)
			}
		}
	}
	recent := func(families map[string]*dto.MetricFamily, name string) float64 {
		t.Helper()
		got := value(t, families, name, "")
		if age := time.Since(time.UnixMilli(int64(got * 1000))); age < -time.Second || age > time.Minute {
			t.Errorf("%s is %v ago", name, age)
		}
		return got
	}

	before := tr.lastRun().Total
	session := filepath.Join(tr.home, "sessions/2026/11/20/rollout-2026-11-20T08-41-46-01a1f81e-6bb9-7000-8000-00000000cafe.jsonl")
	tr.must(os.WriteFile(session, []byte("{}\n"), 0o600))
	good := push(exitOK)
	is(good, map[string]float64{
		"last_run_exit_code": 0, "sessions": 41, "last_run_sessions/uploaded": 1, "last_run_sessions/failed": 0,
		"last_run_uploaded_bytes": 3, "uploaded_bytes_total": float64(before + 3), "last_run_vanished_sessions": 0,
	})
	recent(good, "last_run_timestamp_seconds")
	success := recent(good, "last_success_timestamp_seconds")

	// A session vanishes, and another cannot be read.
	tr.must(os.Remove(session))
	tr.must(os.WriteFile(strings.Replace(session, "cafe", "beef", 1)+".zst", []byte("no zstd"), 0o600))
	bad := push(exitPartial)
	is(bad, map[string]float64{
		"last_run_exit_code": exitPartial, "last_run_sessions/failed": 1, "last_run_sessions/uploaded": 0, "last_run_vanished_sessions": 1,
		"last_success_timestamp_seconds": success, "last_run_uploaded_bytes": 0, "uploaded_bytes_total": float64(before + 3),
	})
	if value(t, bad, "pending_sessions", "") < 1 || value(t, bad, "oldest_pending_age_seconds", "") <= 0 {
		t.Error("what failed is not pending")
	}

	// One that cannot begin, one that only looks, and one that another keeps out.
	home := tr.home
	tr.home = filepath.Join(dir, "missing")
	is(push(exitFailure), map[string]float64{"last_run_exit_code": exitFailure})
	tr.home = home
	push(exitPartial, "--dry-run")
	is(metricsOf(t, file), map[string]float64{"last_run_exit_code": exitFailure})

	// What is documented is what there is.
	doc, err := os.ReadFile("../../docs/operations.md")
	tr.must(err)
	_, section, _ := strings.Cut(string(doc), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(rollout_sync_[a-z_]+)(?:\\{[a-z]+\\})?` \\| ([a-z]+) \\|").FindAllStringSubmatch(section, -1) {
		documented[m[1]] = m[2]
	}
	for name, family := range good {
		kind := strings.ToLower(family.GetType().String())
		if documented[name] != kind || family.GetHelp() == "" {
			t.Errorf("%s is a %s, with the help %q, and documented as %q", name, kind, family.GetHelp(), documented[name])
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["home"] != tr.home || labels["mirror"] != "file://"+tr.mirror {
				t.Errorf("%s has the labels %v", name, labels)
			}
		}
	}
	for name := range documented {
		if good[name] == nil {
			t.Errorf("%s is documented, and not there", name)
		}
	}
	rules := regexp.MustCompile("(?s)```prometheus\n(.*?)```").FindStringSubmatch(section)
	var alerts struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For string
				Annotations      map[string]string
			}
		}
	}
	if rules == nil {
		t.Fatal("docs/operations.md has no alert")
	}
	d := yaml.NewDecoder(strings.NewReader(rules[1]))
	d.KnownFields(true)
	tr.must(d.Decode(&alerts))
	for _, name := range regexp.MustCompile("rollout_sync_[a-z_]+").FindAllString(string(doc), -1) {
		if good[name] == nil {
			t.Errorf("docs/operations.md names %s, which is not there", name)
		}
	}
}

// A push that another run keeps out leaves the file to the other, and a file that cannot
// be written is an error.
func TestMetricsFileIsLeft(t *testing.T) {
	t.Parallel()
	tr := newTree(t, 7)
	files, err := filepath.Glob(strings.TrimPrefix(tr.env[1], "XDG_STATE_HOME=") + "/rollout-sync/*.db")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	dir := t.TempDir()
	if out := tr.run(exitFailure, "push", "--metrics-file", filepath.Join(dir, "missing/x.prom")); !strings.Contains(out, "rollout-sync: --metrics-file: ") {
		t.Errorf("it says %q", out)
	}
	state, err := mirror.OpenState(files[0])
	tr.must(err)
	defer state.Close()
	tr.run(exitLocked, "push", "--metrics-file", filepath.Join(dir, "x.prom"))
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("there are %v, %v", entries, err)
	}
}
