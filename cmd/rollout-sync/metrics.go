package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/mirror"
)

// pushRun is what a push leaves for its metrics, however it ended.
type pushRun struct {
	began  time.Time
	report mirror.Report
	// status is that of the home at the end; nil if it was not to be had.
	status *mirror.Status
}

// writeMetrics replaces file as a whole by what there is to tell of r, which ended with
// err, for the textfile collector of Prometheus's node_exporter. Of a push that another
// run kept out there is nothing to tell: the other tells it.
func (a *app) writeMetrics(ctx context.Context, file string, r pushRun, err error) error {
	if errors.Is(err, mirror.ErrLocked) {
		return nil
	}
	u, e := a.mirrorURL()
	if e != nil {
		return nil // err says so
	}
	home, e := filepath.Abs(a.home)
	if e != nil {
		return e
	}
	registry := prometheus.NewRegistry()
	to := prometheus.WrapRegistererWith(prometheus.Labels{"home": home, "mirror": shown(u)}, registry)
	gauge := func(name, help string, value float64) {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "rollout_sync", Name: name, Help: help})
		g.Set(value)
		to.MustRegister(g)
	}
	seconds := func(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
	now := time.Now()
	gauge("last_run_timestamp_seconds", "When the last push ended.", seconds(now))
	gauge("last_run_duration_seconds", "How long the last push took.", now.Sub(r.began).Seconds())
	gauge("last_run_exit_code", "Exit code of the last push; 0 is success.", float64(exitCode(ctx, err)))
	gauge("last_run_vanished_sessions", "Sessions that the last push found to have vanished from the home.", float64(len(r.report.Vanished)))
	gauge("last_run_foreign_objects", "Objects in the mirror that the last push found not to be what was pushed.", float64(len(r.report.Foreign)))
	gauge("last_run_left_sessions", "Sessions that the last push had no time to begin.", float64(r.report.Left))
	gauge("last_run_uploaded_bytes", "Plain bytes of what the last push wrote.", float64(r.report.Bytes))
	did := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "rollout_sync", Name: "last_run_sessions", Help: "Sessions that the last push dealt with, by what it did.",
	}, []string{"action"})
	for _, action := range actions {
		did.WithLabelValues(string(action)).Set(float64(r.report.Actions[action]))
	}
	to.MustRegister(did)
	if st := r.status; st != nil {
		gauge("sessions", "Sessions in the home.", float64(st.Rollouts))
		gauge("pending_sessions", "Sessions that are new or have changed since they were pushed.", float64(st.Pending))
		gauge("pending_bytes", "Bytes on the disk of the sessions that are pending.", float64(st.Bytes))
		gauge("behind_sessions", "Pending sessions of which the mirror has an earlier version.", float64(st.Behind))
		gauge("diverged_sessions", "Sessions that the mirror keeps beside another home's version.", float64(st.Diverged))
		age := 0.0
		if !st.Oldest.IsZero() {
			age = now.Sub(st.Oldest).Seconds()
		}
		gauge("oldest_pending_age_seconds", "How long ago the pending session last changed that waits the longest; 0 if none is pending.", max(0, age))
		if st.Clean != nil {
			gauge("last_success_timestamp_seconds", "When the last push ended that had nothing to complain about.", seconds(st.Clean.Ended))
		}
		total := int64(0)
		if st.Last != nil {
			total = st.Last.Total
		}
		c := prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "rollout_sync", Name: "uploaded_bytes_total", Help: "Plain bytes of what all pushes wrote, since the home's state was made.",
		})
		c.Add(float64(total))
		to.MustRegister(c)
	}
	if err := prometheus.WriteToTextfile(file, registry); err != nil {
		return fmt.Errorf("--metrics-file: %w", err)
	}
	return nil
}

// statusOf returns the status of the home, nil if it cannot be had in a moment, as at
// the end of a push that was interrupted.
func statusOf(ctx context.Context, state *mirror.State, home *rollout.Home) *mirror.Status {
	const patience = 20 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	st, err := state.Status(ctx, home.Store(), time.Now())
	if err != nil {
		return nil
	}
	return &st
}
