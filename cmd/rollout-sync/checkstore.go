package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	gcblob "gocloud.dev/blob"
	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/dirblob"
	"github.com/rollout-sync/rollout/store/storetest"
)

func (a *app) checkStoreCommand() *cobra.Command {
	var single bool
	cmd := &cobra.Command{
		Use:   "check-store [URL]",
		Short: "Try out whether a bucket keeps what a mirror relies on",
		Long: `Check-store runs the conformance suite of the stores against the bucket or
directory of a URL, or against --mirror: some 50 rules, such as that of two who
create one object one is refused. It tells which rules hold, and what that means
for you.

It works below a random name of its own, rollout-check-…, which it removes in the
end where it may; nothing else in the bucket is read or written, so it may hold a
mirror. It needs a minute or so, some 4,000 requests and 50 MB of traffic.`,
		Example: `  rollout-sync check-store 's3://team-sessions?region=eu-central-1'
  rollout-sync check-store --single-writer 's3://team-sessions?endpoint=https://nas.example'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				a.mirror = args[0]
			}
			return a.checkStore(cmd.Context(), single)
		},
	}
	cmd.Flags().BoolVar(&single, "single-writer", false, "for a store that ignores conditions: check what push --single-writer relies on")
	a.jsonFlag(cmd)
	return cmd
}

const (
	checkPrefix = "rollout-check-"
	checkJobs   = 8 // cases run at a time
	removeJobs  = 16
	// removeTime bounds the removal of what was written, also after a signal.
	removeTime = 5 * time.Minute
)

// checkedRule is a line of check-store --json.
type checkedRule struct {
	Case     string   `json:"case"`
	Rule     string   `json:"rule"`
	OK       bool     `json:"ok"`
	Problems []string `json:"problems"`
}

// checkedStore is the last line of check-store --json.
type checkedStore struct {
	Store        string   `json:"store"`
	Rules        int      `json:"rules"`
	Broken       int      `json:"broken"`
	SingleWriter bool     `json:"single_writer"`
	MayRemove    bool     `json:"may_remove"`
	Left         int      `json:"left"` // objects below LeftAt
	LeftAt       string   `json:"left_at,omitempty"`
	Verdict      []string `json:"verdict"`
}

func (a *app) checkStore(ctx context.Context, single bool) error {
	u, err := a.mirrorURL()
	if err != nil {
		return err
	}
	result := checkedStore{Store: shown(u), SingleWriter: single}
	b, _, err := openBucket(ctx, u)
	switch {
	case u.Scheme == dirblob.Scheme && errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no directory %s", result.Store) // and it is not for a check to make it
	case err != nil:
		return err
	}
	err = a.encrypted(ctx, u, b)
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	place := &scratch{url: below(u, checkPrefix+strings.ToLower(rand.Text()[:12])), single: single}
	a.whenInterrupted = "what was written is removed"
	if err := place.try(ctx); err != nil {
		if left, removeErr := place.remove(ctx); left > 0 || removeErr != nil && ctx.Err() != nil {
			a.tellLeft(left, place, removeErr)
		}
		if errors.Is(err, errors.ErrUnsupported) {
			err = fmt.Errorf("it refuses conditional writes: %w", err)
		}
		return fmt.Errorf("%s cannot be checked: %w", result.Store, err)
	}

	broken := map[string]bool{}
	for c, err := range place.check(ctx) {
		result.Rules++
		if err != nil {
			broken[c.Name] = true
		}
		a.eachChecked(c, err)
	}
	left, removeErr := place.remove(ctx)
	if left > 0 || removeErr != nil {
		a.tellLeft(left, place, removeErr)
		result.Left, result.LeftAt = left, shown(place.url)
	}
	result.MayRemove = !place.keeps
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	result.Broken, result.Verdict = len(broken), verdict(broken, place)
	if a.json {
		a.print(result)
	} else {
		fmt.Fprintf(a.out, "\n%s: %d of %d rules hold\n", result.Store, result.Rules-result.Broken, result.Rules)
		for _, line := range result.Verdict {
			fmt.Fprintln(a.out, line)
		}
	}
	if len(broken) > 0 {
		return fmt.Errorf("%d of %d rules do not hold at %s", result.Broken, result.Rules, result.Store)
	}
	if removeErr != nil && !place.keeps {
		return errors.New(notRemoved)
	}
	return nil
}

func (a *app) eachChecked(c storetest.Case, err error) {
	problems := []string{}
	for _, err := range unjoin(err) {
		problems = append(problems, oneLine(err))
	}
	switch {
	case a.json:
		a.print(checkedRule{c.Name, c.Rule, err == nil, problems})
	case err == nil:
		fmt.Fprintf(a.out, "ok      %-21s  %s\n", c.Name, c.Rule)
	default:
		fmt.Fprintf(a.out, "FAILED  %-21s  the rule: %s\n", c.Name, c.Rule)
		const most = 3
		for i, p := range problems {
			if i == most {
				p = fmt.Sprintf("and %d more (see --json)", len(problems)-most)
			}
			fmt.Fprintf(a.out, "        %s\n", p)
			if i == most {
				break
			}
		}
	}
}

// unjoin returns the errors that err joins.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

// tellLeft says what could not be removed.
func (a *app) tellLeft(left int, place *scratch, err error) {
	a.whenInterrupted = notRemoved
	what := fmt.Sprintf("%d objects", left)
	if left == 0 {
		what = "perhaps something"
	}
	fmt.Fprintf(a.err, "left below %s: %s that nothing needs (%s)\n", shown(place.url), what, oneLine(err))
}

const notRemoved = "not all that was written could be removed"

var (
	// conditionCases are broken by a store that ignores conditions.
	conditionCases = []string{
		"CreateTaken", "CreateTwice", "OneWriterWins", "SealedStays",
		"PutConditions", "PutConditionsLarge", "PutOneWins",
	}
	// alsoConditionCases are then broken too, but by other stores as well.
	alsoConditionCases = []string{"Errors", "PutBody"}
)

// removeCase is of what only forget does.
const removeCase = "RemoveConditions"

// verdict says what the broken rules mean for the user.
func verdict(broken map[string]bool, place *scratch) (lines []string) {
	isBroken := func(name string) bool { return broken[name] }
	conditions := !place.single && slices.ContainsFunc(conditionCases, isBroken)
	others := false
	for name := range broken {
		explained := conditions && (slices.Contains(conditionCases, name) || slices.Contains(alsoConditionCases, name))
		others = others || !explained && name != removeCase
	}
	switch {
	case others:
		lines = append(lines, "Do not use this store for a mirror before it is known why it breaks the rules above.")
	case conditions:
		lines = append(lines, "This store ignores conditions: two that push at once can overwrite each other. Pushes need --single-writer, and may come from one machine only. Check it again with --single-writer.")
	case place.single:
		lines = append(lines, "This store does what a mirror needs of it if pushes have --single-writer and come from one machine only.")
	case place.url.Scheme == dirblob.Scheme:
		lines = append(lines, "This directory does what a mirror needs of it. Any number of processes of this machine may push to it at once.")
	default:
		lines = append(lines, "This store does what a mirror needs of it. Any number of machines may push to it at once.")
	}
	if broken[removeCase] {
		lines = append(lines, "This store removes whatever version is there: forget can remove what somebody has pushed in the same moment.")
	}
	if place.keeps {
		lines = append(lines, "These credentials may not remove anything, which is right for a machine that pushes. What forget relies on was not checked.")
	}
	return lines
}

// A scratch is a place below a store's URL that belongs to one check.
type scratch struct {
	url       *url.URL
	single    bool
	keeps     bool // the credentials may not remove
	foldsCase bool
}

// below returns the URL of what lies below a directory in the store of u.
func below(u *url.URL, dir string) *url.URL {
	if u.Scheme == dirblob.Scheme {
		return withParam(u.JoinPath(dir), "create_dir", "true")
	}
	return withParam(u, prefixParam, u.Query().Get(prefixParam)+dir+"/")
}

// open opens what lies below dir, and says how to make Stores of it, which end with
// the bucket.
func (s *scratch) open(ctx context.Context, dir string) (bucket *gcblob.Bucket, newStore func() *blob.Store, err error) {
	bucket, service, err := openBucket(ctx, below(s.url, dir))
	if err != nil {
		return nil, nil, err
	}
	service.SingleWriter = s.single
	return bucket, func() *blob.Store { return blob.New(bucket, &blob.Options{Service: service}) }, nil
}

// try finds out whether the store answers at all, so that wrong credentials are one
// error and not one for each rule, and what the credentials may do.
func (s *scratch) try(ctx context.Context) error {
	bucket, newStore, err := s.open(ctx, "try")
	if err != nil {
		return err
	}
	defer bucket.Close()
	st := newStore()
	const name = "x.bin"
	version, err := st.Put(ctx, name, store.BytesBody([]byte("rollout-sync check-store\n"), time.Time{}), store.Cond{IfAbsent: true})
	if err != nil {
		return err
	}
	f, err := st.Open(ctx, name)
	if err != nil {
		return err
	}
	f.Close()
	for _, err := range st.List(ctx, ".", store.ListOptions{}) {
		if err != nil {
			return err
		}
	}
	if s.url.Scheme == dirblob.Scheme { // nothing else may
		if f, err := st.Open(ctx, strings.ToUpper(name)); err == nil {
			s.foldsCase = true
			f.Close()
		}
	}
	err = st.Remove(ctx, name, version)
	s.keeps = errors.Is(err, fs.ErrPermission)
	return ctx.Err()
}

// check runs all cases that apply, several at a time, and yields them in order. It
// ends early if the context does.
func (s *scratch) check(ctx context.Context) iter.Seq2[storetest.Case, error] {
	return func(yield func(storetest.Case, error) bool) {
		var cases []storetest.Case
		about := s.harness(func() *blob.Store { return new(blob.Store) })
		for _, c := range storetest.Cases() {
			if c.Applies == nil || c.Applies(about) {
				cases = append(cases, c)
			}
		}
		ctx, cancel := context.WithCancel(ctx)
		results := make([]chan error, len(cases))
		for i := range results {
			results[i] = make(chan error, 1)
		}
		var (
			all   sync.WaitGroup // what may run beside others
			slots = make(chan struct{}, checkJobs)
			ended = make(chan struct{})
		)
		go func() {
			defer close(ended)
			for i, c := range cases {
				if c.Name == "NothingLeft" { // it counts what the process has open
					all.Wait()
				}
				slots <- struct{}{}
				all.Go(func() {
					defer func() { <-slots }()
					results[i] <- s.checkCase(ctx, c)
				})
			}
			all.Wait()
		}()
		defer func() {
			cancel()
			<-ended // the cases write until then
		}()
		for i, c := range cases {
			err := <-results[i]
			if ctx.Err() != nil || !yield(c, err) {
				return
			}
		}
	}
}

func (s *scratch) checkCase(ctx context.Context, c storetest.Case) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	bucket, newStore, err := s.open(ctx, c.Name)
	if err != nil {
		return err
	}
	defer bucket.Close()
	return c.Check(ctx, s.harness(newStore))
}

func (s *scratch) harness(newStore func() *blob.Store) storetest.Harness {
	open := func() storetest.Store {
		st := newStore()
		if s.keeps {
			return keeping{st, st}
		}
		return st
	}
	h := storetest.Harness{Store: open(), WriteOnce: true, FoldsCase: s.foldsCase}
	if !s.single {
		h.Reopen = open
	}
	return h
}

// keeping is a store that cannot remove.
type keeping struct {
	storetest.Store
	store.Putter
}

// remove removes all that lies in the scratch, and returns how many objects could
// not be, with the first reason. It goes on when ctx is done.
func (s *scratch) remove(ctx context.Context) (left int, err error) {
	if s.url.Scheme == dirblob.Scheme {
		dir, err := dirblob.Path(s.url)
		if err != nil {
			return 0, err
		}
		return 0, os.RemoveAll(dir)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	bucket, _, err := openBucket(ctx, s.url)
	if err != nil {
		return 0, err
	}
	defer bucket.Close()
	var (
		failed atomic.Int64
		group  errgroup.Group
	)
	group.SetLimit(removeJobs)
	for objects := bucket.List(nil); ; {
		o, err := objects.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			_ = group.Wait()
			return int(failed.Load()), err
		}
		if s.keeps {
			failed.Add(1)
			continue
		}
		group.Go(func() error {
			err := bucket.Delete(ctx, o.Key)
			if err != nil {
				failed.Add(1)
			}
			return err
		})
	}
	if err = group.Wait(); s.keeps {
		err = fs.ErrPermission
	}
	return int(failed.Load()), err
}
