package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
)

func (a *app) verifyCommand() *cobra.Command {
	var deep bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the mirror against its own hashes and the home against the mirror",
		Long: `Verify reads the trailer, the seek table and the metadata of every object in
the mirror and holds them against each other; with --deep it reads, decodes and
hashes every byte. Then it tells which sessions of the home the mirror does not
have yet.`,
		Example: `  rollout-sync verify
  rollout-sync verify --deep --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.verify(cmd, deep) },
	}
	cmd.Flags().BoolVar(&deep, "deep", false, "read, decode and hash every byte")
	a.jsonFlag(cmd)
	return cmd
}

// verified is a line of verify --json.
type verified struct {
	Name    string `json:"name"`
	Size    int64  `json:"plain_size"`
	Pending bool   `json:"pending"`
	Damaged bool   `json:"damaged"`
	Error   string `json:"error,omitempty"`
}

func (a *app) verify(cmd *cobra.Command, deep bool) error {
	ctx := cmd.Context()
	m, err := a.openMirror(ctx, false)
	if err != nil {
		return err
	}
	defer m.Close()
	home, err := a.openHome()
	if err != nil {
		return err
	}
	defer home.Close()
	v, err := mirror.Verify(ctx, mirror.Verifying{Mirror: m, Home: home.Store(), Deep: deep, Each: a.eachVerified})
	if err != nil {
		return err
	}
	if !a.json {
		fmt.Fprintf(a.out, "mirror: %d objects, %s, %d damaged\nhome:   %d sessions, %d not in the mirror\n",
			v.Objects, size(v.Bytes), len(v.Damaged), v.Compared, v.Pending)
	}
	switch {
	case len(v.Damaged) > 0:
		return integrity(len(v.Damaged), "objects are not what was written")
	case len(v.Failures) > 0:
		return &exitError{exitPartial, fmt.Errorf("%d could not be checked", len(v.Failures))}
	}
	return nil
}

func (a *app) eachVerified(f mirror.Finding) {
	if f.Err != nil {
		word := "failed"
		if errors.Is(f.Err, store.ErrCorrupt) {
			word = "damaged"
		}
		fmt.Fprintf(a.err, "%s: %s\n", word, about(f.Name, f.Err))
	}
	if a.json {
		line := verified{Name: f.Name, Size: f.Size, Pending: f.Pending, Damaged: errors.Is(f.Err, store.ErrCorrupt)}
		if f.Err != nil {
			line.Error = oneLine(f.Err)
		}
		a.print(line)
	} else if f.Pending {
		fmt.Fprintf(a.out, "pending  %8s  %s\n", size(f.Size), clean(f.Name))
	}
}
