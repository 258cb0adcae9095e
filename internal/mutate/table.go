package main

const (
	vfs       = "store/internal/vfs"
	filestore = "store/internal/filestore"
	local     = "store/local"
	memfs     = "store/memfs"
	blob      = "store/blob"
	dirblob   = "store/blob/dirblob"
	replay    = "replay"
)

// Each mutation takes one thing away. Those that leave a variable unused use it up.
var mutations = []mutation{
	// Durability.
	{
		vfs + "/os.go", "the fsync of a directory",
		"return errors.Join(d.Sync(), d.Close())", "return d.Close()", vfs, "TestSyncDirSyncs",
	},
	{
		vfs + "/vfs.go", "the fsync of a file that is put",
		"err = f.Sync()", "err = nil", filestore, "TestCrash",
	},
	{
		vfs + "/vfs.go", "the fsync of the directory of a log that is put",
		"return SyncAbove(fsys, name)", "return nil", filestore, "TestCrash",
	},
	{
		vfs + "/vfs.go", "the fsync of directories that were made",
		`if err := fsys.SyncDir(dir); err != nil || dir == "." {`, "if err := fsys.SyncDir(dir); true {", filestore, "TestCrash",
	},
	{
		vfs + "/vfs.go", "the time of a log before its fsync",
		"err = date() // so that Sync makes it durable too", "err = nil", filestore, "TestCrash",
	},
	{
		filestore + "/log.go", "the fsync of a log",
		"if err := l.f.Sync(); err != nil {", "if err := error(nil); err != nil {", filestore, "TestCrash",
	},
	{
		filestore + "/log.go", "the fsync of the directory of a log",
		"if !l.durable {", "if false {", filestore, "TestCrash",
	},
	{
		filestore + "/log.go", "the fsync of the directory of a log that another process made",
		"return &log{f: f, size: fi.Size(), synced: fi.Size()}, nil",
		"return &log{f: f, size: fi.Size(), synced: fi.Size(), durable: true}, nil", filestore, "TestCrash",
	},
	{
		filestore + "/log.go", "the Sync of Seal",
		"err = l.sync()", "err = nil", filestore, "TestCrash",
	},
	{
		filestore + "/put.go", "the fsync of the directory after a removal",
		"return s.fs.SyncDir(path.Dir(file))", "_ = path.Dir\n\treturn nil", filestore, "TestCrash",
	},

	// Failures.
	{
		filestore + "/log.go", "the poisoning by a failed Append",
		`return l.poison("append", err, before)`, `_ = before; return store.Wrap("append", l.name, err)`, filestore, "TestFaults",
	},
	{
		filestore + "/log.go", "the poisoning by a failed Sync",
		"if err := l.f.Sync(); err != nil {\n\t\treturn l.poison(\"sync\", err, l.synced)",
		"if err := l.f.Sync(); err != nil {\n\t\treturn store.Wrap(\"sync\", l.name, err)", filestore, "TestFaults",
	},
	{
		filestore + "/log.go", "the poisoning by a failed fsync of a directory",
		"if err := vfs.SyncAbove(l.fs, l.name); err != nil {\n\t\t\treturn l.poison(\"sync\", err, l.synced)",
		"if err := vfs.SyncAbove(l.fs, l.name); err != nil {\n\t\t\treturn store.Wrap(\"sync\", l.name, err)", filestore, "TestFaults",
	},
	{
		filestore + "/log.go", "memory of the first failure",
		"l.err = store.Wrap(op, l.name, cause)\n\treturn l.err", "return store.Wrap(op, l.name, cause)", filestore, "TestFaults",
	},
	{
		filestore + "/log.go", "the cut-back",
		"err = l.f.Truncate(keep)", "", filestore, "TestFaults",
	},
	{
		filestore + "/log.go", "the look for foreign bytes before a cut-back",
		"case fi.Size() == l.size:", "case true:", filestore, "TestForeignBytesAreNotCut",
	},
	{
		filestore + "/log.go", "the length check of a write",
		"if err == nil && n < len(p) {", "if false {", filestore, "TestFaults",
	},
	{
		filestore + "/log.go", "the removal of a log of which nothing remained",
		"err = errors.Join(err, l.fs.Remove(l.name))", "", filestore, "TestFailedFirstAppend",
	},
	{
		vfs + "/vfs.go", "the error of Close",
		"err = errors.Join(err, f.Close())", "_ = f.Close()", filestore, "TestFaults",
	},
	{
		vfs + "/vfs.go", "the removal of the temporary file",
		"if e := fsys.Remove(temp); e != nil", "if e := error(nil); e != nil", filestore, "TestFaults",
	},
	{
		filestore + "/filestore.go", "the length check of a read",
		`err = fmt.Errorf("%w: the file was cut at byte %d", store.ErrChanged, s.off)`, "err = io.EOF", filestore, "TestReadOfACutLog",
	},
	{
		filestore + "/filestore.go", "the difference between a failed read and a damaged form",
		"return short, err\n}", "return short, nil\n}", filestore, "TestFaults",
	},
	{
		filestore + "/filestore.go", "ErrCorrupt for a damaged log",
		`err = fmt.Errorf("%w: %w", store.ErrCorrupt, err)`, "", local, "TestDamagedSealedLog",
	},

	// Conditions.
	{
		filestore + "/put.go", "the condition of Put",
		"if absent != c.IfAbsent || !absent &&", "if false &&", local, "TestStore/PutConditions",
	},
	{
		filestore + "/put.go", "the compare of versions in Put",
		"|| !absent && s.fs.Version(at.file, at.fi) != c.IfVersion {", "{", local, "TestStore/PutConditions",
	},
	{
		filestore + "/put.go", "the second look before a log is replaced",
		"if old, err = s.check(ctx, name, c); err != nil {", "if old, err = s.find(ctx, name); false {", filestore, "TestPutChecksLate",
	},
	{
		filestore + "/put.go", "link instead of rename for a free name",
		"if c.IfAbsent {", "if false {", filestore, "TestPutIfAbsentReplacesNothing",
	},
	{
		filestore + "/put.go", "the compare of versions in Remove",
		"if s.fs.Version(at.file, at.fi) != version {", "if false {", local, "TestStore/RemoveConditions",
	},
	{
		"store/body.go", "the refusal of no condition",
		`if c.IfAbsent == (c.IfVersion != "") {`, "if false {", local, "TestStore/PutConditions",
	},
	{
		"store/body.go", "the hash compare of a body",
		"if [32]byte(b.hash.Sum(nil)) != b.body.SHA256 {", "if false {", "store", "TestBodyReader",
	},
	{
		blob + "/put.go", "the hash compare of a body by its sealer",
		"if z.Trailer().SHA256 != b.SHA256 {", "if false {", blob, "TestConformance/mem/PutChangedBody",
	},
	{
		blob + "/put.go", "the question whether a body is compared as it is read",
		"if s, ok := z.(*codec.Sealer); ok && store.Checked(r) {", "if s, ok := z.(*codec.Sealer); ok {", blob, "TestConformance/mem/PutChangedBody",
	},
	{
		"store/body.go", "the compare of what is read again",
		"(r.left != 0 || r.mark.Sum64() != r.want)", "r.left != 0", "store", "TestReading",
	},
	{
		"store/body.go", "the early end of a body that is long",
		"if b.n > b.body.Size {", "if false {", filestore, "TestPutOfALongBody",
	},

	// Two forms of one log.
	{
		filestore + "/filestore.go", "the rule for a plain form that was cut short",
		"if short {", "if short && false {", local, "TestForms",
	},
	{
		filestore + "/put.go", "the removal of a form that does not count before the other is replaced",
		"if !old.sealed {", "if false {", filestore, "TestFaults",
	},
	{
		filestore + "/put.go", "the removal of the compressed form that was replaced",
		"if old.sealed {", "if false {", filestore, "TestCrash",
	},
	{
		filestore + "/put.go", "the removal of the form that does not count before the other",
		"if err := s.removeOther(name, at); err != nil {", "if err := error(nil); err != nil {", filestore, "TestFaults",
	},

	// Locks.
	{
		filestore + "/log.go", "the lock of a writer",
		"unlock, err := s.take(ctx, name)", "unlock, err := func() error { return nil }, error(nil)", local, "TestTwoProcesses",
	},
	{
		filestore + "/lock.go", "the lock of Put and Remove",
		"do func() error) error {\n\tunlock, err := s.take(ctx, name)",
		"do func() error) error {\n\tunlock, err := func() error { return nil }, error(nil)", local, "TestTwoProcesses",
	},
	{
		filestore + "/lock.go", "one lock for a log and its compressed form",
		"name = strings.TrimSuffix(name, sealedSuffix)", "", filestore, "TestStoredFormIsLocked",
	},
	{
		filestore + "/lock.go", "the gate when a lock is taken",
		"open, err := s.gate(ctx, l.Gate)", `open, err := s.gate(ctx, "")`, filestore, "TestGate",
	},
	{
		filestore + "/lock.go", "the gate when a lock is given back",
		"open, err := s.gate(context.WithoutCancel(ctx), l.Gate)", `open, err := s.gate(context.WithoutCancel(ctx), "")`, filestore, "TestGateStaysShut",
	},
	{
		filestore + "/lock.go", "the wait for the gate when the context is over",
		"context.WithoutCancel(ctx)", "context.Context(ctx)", filestore, "TestGate",
	},
	{
		filestore + "/lock.go", "the removal of a lock's file",
		"if e := s.fs.Remove(l.File); !errors.Is(e, fs.ErrNotExist) {", "if e := error(nil); !errors.Is(e, fs.ErrNotExist) {", local, "TestTwoProcesses",
	},
	{
		vfs + "/lock_unix.go", "flock",
		"err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)", "var err error", local, "TestCodexLock",
	},
	{
		vfs + "/os.go", "the look whether a lock's file still has its name",
		"err == nil && os.SameFile(held, now)", "err == nil || os.SameFile(held, now)", vfs, "TestLockOfARemovedFile",
	},
	{
		memfs + "/serial.go", "the lock in memory",
		"if s.locked[name] {", "if false {", memfs, "TestStore/MemMapFs/AppendBusy",
	},

	// Files.
	{
		vfs + "/os.go", "O_EXCL",
		"os.O_CREATE|os.O_EXCL", "os.O_CREATE", vfs, "TestFS",
	},
	{
		vfs + "/os.go", "O_APPEND",
		"os.O_RDWR|os.O_APPEND, 0)", "os.O_RDWR, 0)", vfs, "TestFS",
	},
	{
		vfs + "/os.go", "the mode of files against the umask",
		"if err := made.Chmod(filePerm); err != nil &&", "if err := error(nil); err != nil &&", local, "TestUmask",
	},
	{
		vfs + "/os.go", "the mode of directories against the umask",
		"err = f.root.Chmod(name, dirPerm) // as in create", "", local, "TestUmask",
	},
	{
		vfs + "/os.go", "the refusal of links to directories where some are made",
		"if err == nil && !fi.IsDir() {", "if false && !fi.IsDir() {", vfs, "TestSymbolicLinks",
	},
	{
		vfs + "/open_linux.go", "the refusal of links to directories",
		"unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS", "unix.RESOLVE_BENEATH", vfs, "TestSymbolicLinks",
	},
	{
		vfs + "/open.go", "the refusal of links to directories by other systems",
		"case fi.Mode()&fs.ModeSymlink != 0:", "case false:", vfs, "TestSymbolicLinks",
	},
	{
		filestore + "/filestore.go", "the refusal of links to files",
		"err == nil && !fi.Mode().IsRegular()", "false", local, "TestSymbolicLinks",
	},
	{
		memfs + "/serial.go", "the end as the place of a write",
		"if _, err := f.Seek(0, io.SeekEnd); err != nil {", "if _, err := f.Seek(0, io.SeekStart); err != nil {", memfs, "TestStore/MemMapFs/AppendContinues",
	},

	// Contexts and names.
	{
		filestore + "/filestore.go", "the look at the context before a call",
		"if err := ctx.Err(); err != nil {\n\t\treturn err\n\t}\n\treturn store.CheckName(name)", "return store.CheckName(name)", local, "TestStore/Cancelled",
	},
	{
		filestore + "/filestore.go", "the look at the context while a log is read",
		"if err := s.ctx.Err(); err != nil {", "if err := error(nil); err != nil {", filestore, "TestReadIsCancelled",
	},
	{
		"store/body.go", "the look at the context while a body is read",
		"if err := b.ctx.Err(); err != nil {", "if err := error(nil); err != nil {", filestore, "TestPutIsCancelled",
	},
	{
		filestore + "/filestore.go", "the check of names",
		"return store.CheckName(name)\n}", "return nil\n}", local, "TestStore/BadNames",
	},
	{
		"store/errors.go", "the refusal of names that begin with a dot",
		"case e[0] == '.':", "case false:", "store", "TestCheckName",
	},
	{
		"store/errors.go", "the refusal of names that lead elsewhere",
		`case name == "." || !fs.ValidPath(name):`, `case name == "":`, "store", "TestCheckName",
	},

	// Sealed logs and object stores.
	{
		"codec/sealed.go", "the check of a sealed log against its trailer",
		"if t != got || sum != frames.sum ||", "if t != got && sum != frames.sum ||", "codec", "TestDamage",
	},
	{
		blob + "/put.go", "the condition of a create",
		"u.cond.IfAbsent,\n\t}", "false,\n\t}", blob, "TestConformance/dir/PutConditions",
	},
	{
		blob + "/put.go", "the first bytes of a stream that was gathered in vain",
		"io.MultiReader(bytes.NewReader(head), pr)", "io.Reader(pr)", blob + "/s3", "TestOneRequest",
	},
	{
		blob + "/put.go", "the condition of a replacement",
		"w := Write{IfVersion: u.cond.IfVersion,", "w := Write{", blob, "TestConformance/dir/PutConditions",
	},
	{
		blob + "/rate.go", "the wait for the rate",
		"if s.rate == nil {", "if true {", blob, "TestUploadRate",
	},
	{
		blob + "/put.go", "the end of the wait for the rate with the upload",
		"cancel() // who waits for the rate", "", blob, "TestUploadRateIsCancelled",
	},
	{
		dirblob + "/write.go", "the condition of a create in a directory",
		"if w.ifNotExist {", "if false {", dirblob, "TestConditionsHoldBetweenBuckets",
	},
	{
		dirblob + "/write.go", "the condition of a replacement in a directory",
		`version := w.pending.IfVersion; version != ""`, `version := w.pending.IfVersion; false`, dirblob, "TestConditionsHoldBetweenBuckets",
	},
	{
		dirblob + "/dirblob.go", "the fsync of the directory after a removal",
		"return b.fsys.SyncDir(path.Dir(key))", "return nil", dirblob, "TestDeleteIsDurable",
	},
	{
		blob + "/s3/s3.go", "the If-Match of a replacement in S3",
		"in.IfMatch = quote(w.IfVersion)", "", "integration", "TestConformance/versitygw/plain/PutConditions",
	},
	{
		blob + "/gcs/gcs.go", "the generation of a replacement in GCS",
		"*handle = (*handle).If(storage.Conditions{GenerationMatch: generation})", "", "integration", "TestConformance/fake-gcs-server/plain/PutConditions",
	},
	{
		blob + "/azure/azure.go", "the If-Match of a replacement in Azure",
		"IfMatch: &etag", "IfMatch: func(*azcore.ETag) *azcore.ETag { return nil }(&etag)", blob + "/azure", "TestConformance/plain/PutConditions",
	},

	// The mirror.
	{
		"mirror/place.go", "the hash compare of what a version extends",
		"case src.version.Size > cur.Size && src.prefix == cur.SHA256:", "case src.version.Size > cur.Size:", "mirror", "TestPushRules",
	},
	{
		"mirror/place.go", "the hash compare of a version that is the mirror's",
		"case src.version.Size == cur.Size && src.version.hash() == cur.SHA256:", "case src.version.Size == cur.Size:", "mirror", "TestPushRules",
	},
	{
		"mirror/place.go", "the hash compare of a version that the mirror extends",
		"if cur.Size > src.version.Size && remote.prefix == src.version.hash() {", "if cur.Size > src.version.Size {", "mirror", "TestPushRules",
	},
	{
		"mirror/place.go", "the copy to history before a rewrite",
		"if err := a.copy(ctx, remote, historyKey(a.slot.key, cur.SHA256)); err != nil {", "if err := error(nil); err != nil {", "mirror", "TestPushRules",
	},
	{
		"mirror/place.go", "the condition of a replacement",
		"	ifCur := store.Cond{IfVersion: cur.Version}",
		"	ifCur := store.Cond{IfVersion: cur.Version}\n	if f, err := a.Mirror.Open(ctx, a.slot.key); err == nil {\n		ifCur.IfVersion = f.Info().Version\n		f.Close()\n	}",
		"mirror", "TestSimulation/seed=26",
	},
	{
		"mirror/place.go", "the look at what this home had before a rewrite",
		"if a.slot.own || !a.slot.second && cur.SHA256 == a.base {", "if true {", "mirror", "TestSimulation/seed=36",
	},
	{
		"mirror/place.go", "the look into the history",
		"a.out.Action, a.out.Key = Superseded, key", "return a.put(ctx, store.Cond{IfVersion: a.cur.Version}, Superseded)", "mirror", "TestSimulation/seed=20",
	},
	{
		"mirror/place.go", "what became of a Put whose condition failed",
		"a.slot.key, body, c); err != nil {", "a.slot.key, body, c); err != nil && !errors.Is(err, store.ErrChanged) {", "mirror", "TestSimulation/seed=26",
	},
	{
		"mirror/place.go", "the version of which an origin has told",
		"if fact.Object == version {", "if fact.Object != \"\" {", "mirror", "TestSimulation/seed=29",
	},
	{
		"mirror/push.go", "the wait for what a rollout begins with",
		"if base.Rollout != \"\" && !c.ordered {", "if false {", "mirror", "TestPushLineage",
	},
	{
		"mirror/push.go", "the push of what is not idle, but others begin with",
		"if parent, ok := p.waiting[base]; ok {", "if parent, ok := p.waiting[base]; false && ok {", "mirror", "TestPushLineage",
	},
	{
		"mirror/push.go", "the torn end that a push left for the next",
		"		(src.limit == 0 || src.limit == i.Size) && p.at", "		p.at", "mirror", "TestSimulation/seed=17",
	},
	{
		"mirror/place.go", "the copy of foreign bytes",
		"if err := a.copy(ctx, raw, to); err != nil {", "if err := error(nil); err != nil {", "mirror", "TestPushForeignOverwrite",
	},
	{
		"mirror/place.go", "a dry run's not writing",
		"	if a.DryRun {\n		a.mu.Lock()", "	if false {\n		a.mu.Lock()", "mirror", "TestPushDryRun",
	},
	{
		"mirror/place.go", "the look for tombstones",
		"err != nil || tombstone != \"\" {", "err != nil {", "mirror", "TestPushOfForgotten",
	},
	{
		"mirror/push.go", "the distrust of what changed a moment ago",
		"if now.Sub(changed).Abs() >= settle &&", "if", "mirror", "TestPushDistrustsFreshFiles",
	},
	{
		"mirror/push.go", "the journal of what is to be told",
		"if err := set(p.due, untold, fact.Rollout, fact); err != nil {", "if err := error(nil); err != nil {", "mirror", "TestPushTellsLater",
	},
	{
		"mirror/scan.go", "what a listing finds missing",
		"for key, v := range known {", "for key, v := range map[string]string{} {", "mirror", "TestPushReconcile",
	},
	{
		"mirror/scan.go", "what was not dealt with after a listing",
		"|| len(p.report.Failures) > 0 {", "{", "mirror", "TestPushReconcile",
	},
	{
		"mirror/scan.go", "the wait of big sessions",
		"grown = c.size >= o.Size+o.Size/bigGrowth", "grown = true", "mirror", "TestPushBigSessions",
	},
	{
		"mirror/marker.go", "the probe of versions",
		"return refused >= 2, nil", "return true, nil", "mirror", "TestPushProbesConditions",
	},
	{
		"mirror/marker.go", "the probe of absence",
		"		case c.IfAbsent:\n			return false, nil", "		case c.IfAbsent:\n			refused++", "mirror", "TestPushProbesConditions",
	},
	{
		"mirror/verify.go", "the second reading of what seems damaged",
		"if errors.Is(f.Err, store.ErrCorrupt) { // the object", "if false { // the object", "mirror", "TestVerifyReadsAgain",
	},
	{
		"mirror/push.go", "the look at a file that was read into memory",
		"if _, ok := src.f.(*heldFile); ok && !src.current() {", "if false {", "mirror", "TestPushOfWhatChanges",
	},
	{
		blob + "/put.go", "the hash compare of what is put whole",
		"if int64(len(p)) != b.Size || sum != b.SHA256 {", "if int64(len(p)) != b.Size {", blob, "TestConformance/dir/PutChangedBody",
	},
	{
		"mirror/verify.go", "the look for what rollouts begin with",
		"return trailer.Size, v.begins(ctx, key, f)", "return trailer.Size, nil", "mirror", "TestVerifyLineage",
	},
	{
		"mirror/push.go", "the facts that could not be told",
		"		if err := p.ledger.tell(ctx, month, facts); err != nil {",
		"		for _, f := range facts {\n			p.due.remove(untold, f.Rollout)\n		}\n		if err := p.ledger.tell(ctx, month, facts); err != nil {",
		"mirror", "TestSimulation/seed=22",
	},
	{
		"mirror/restore.go", "the hash compare of a file that is to be replaced",
		"if begins == local.version.hash() {", "if begins != \"\" {", "mirror", "TestRestore",
	},
	{
		"mirror/restore.go", "what a rollout begins with, before it",
		"if refers {", "if refers && false {", "mirror", "TestRestoreLineage",
	},
	{
		"mirror/restore.go", "the newest first",
		"store.ListOptions{Desc: true}", "store.ListOptions{}", "mirror", "TestRestoreLineage",
	},
	{
		"mirror/restore.go", "the look for a lineage that is a circle",
		"if seen[p.Rollout] {", "if len(seen) > 100 {", "mirror", "TestRestoreLineage",
	},
	{
		"mirror/restore.go", "the base of what was restored",
		"if r.State == nil || r.DryRun ||", "if true ||", "mirror", "TestRestoreRemembersTheBase",
	},
	{
		"mirror/restore.go", "Codex's lock on all of a home",
		"l, ok := store.As[store.Locker](home)", "l, ok := store.As[store.Locker](nil)", "mirror", "TestRestoreWaitsForNoMaintenance",
	},
	{
		"mirror/lineage.go", "the hash of what a rollout begins with",
		`return info, p.SHA256 == "" || sum == p.SHA256, nil`, "return info, sum != \"-\", nil", "mirror", "TestLineageVersion",
	},
	{
		"mirror/prune.go", "the download of what is taken away",
		"Deep: !p.DryRun", "Deep: false", "mirror", "TestPruneAHome",
	},
	{
		"mirror/prune.go", "the hash compare of what is taken away",
		"if sum != v.hash() {", "if sum == \"-\" {", "mirror", "TestPruneAHome",
	},
	{
		"mirror/prune.go", "the look at the other form",
		"if err := p.otherForm(ctx, file, f); err != nil {", "if err := error(nil); err != nil {", "mirror", "TestPruneAHome",
	},
	{
		"mirror/prune.go", "the ctime",
		"if i.ChangeTime.After(changed) {", "if false {", "mirror", "TestPruneAge",
	},
	{
		"mirror/prune.go", "what stays and refers to what goes",
		"p.referred[c.base] = true", "_ = c", "mirror", "TestPruneLineage",
	},
	{
		"mirror/prune.go", "what stays and cannot be read",
		"p.unread = max(p.unread, t.UnixMilli())", "_ = t", "mirror", "TestPruneLineage",
	},
	{
		"mirror/prune.go", "children before what they refer to",
		"for _, child := range p.children[c.Name.Rollout.String()] {", "for _, child := range p.children[\"\"] {", "mirror", "TestPruneLineage",
	},
	{
		"mirror/prune.go", "the word to the next push",
		"if err := p.State.write(gone); err != nil {", "if err := error(nil); err != nil {", "mirror", "TestPruneIsNotVanished",
	},
	{
		"mirror/forget.go", "the tombstone",
		"for _, id := range f.report.IDs {\n\t\t\tif err := f.bury", "for _, id := range []string{} {\n\t\t\tif err := f.bury", "mirror", "TestForget",
	},
	{
		filestore + "/move.go", "the fsync of the new name of a log",
		"if err := vfs.SyncAbove(s.fs, to); err != nil {", "if err := vfs.ErrLocked; err == nil {", filestore, "TestMove",
	},
	{
		filestore + "/move.go", "the compare of versions in Move",
		"if s.fs.Version(at.file, at.fi) != version {", "if false {", local, "TestStore/MoveConditions",
	},
	{
		"mirror/verify.go", "the check of every byte by a deep verify",
		"if !v.Deep {\n\t\treturn codec.OpenSealed(", "if true {\n\t\treturn codec.OpenSealed(", "mirror", "TestVerifyFindsDamage",
	},

	// Lists.
	{
		"listing/scan.go", "what was left out of a directory",
		"	if l.kept.full {", "	if false && l.kept.full {", "listing", "TestFlatDirectory",
	},
	{
		"listing/scan.go", "the order of what is left out",
		"if l.compare(n, l.nodes[0]) < 0 {", "if false {", "listing", "TestFlatDirectory",
	},
	{
		"listing/search.go", "the id in the order of equal times",
		"cmp.Or(cmp.Compare(a.time, b.time), compareID(a.id, b.id)) > 0", "cmp.Compare(a.time, b.time) > 0", "listing", "TestPagesAreTheSortedSet",
	},
	{
		"listing/item.go", "the look for a newer copy elsewhere in the order",
		"if s.byUpdate() && c.updated() > n.lo || n.files[0].misplaced {", "if n.files[0].misplaced {", "listing", "TestPagesAreTheSortedSet",
	},
	{
		"listing/listing.go", "the word that a limit ended the page",
		"Limited: s.limited && len(items) <= limit,", "Limited: false,", "listing", "TestMaxScan",
	},
	{
		"listing/find.go", "the look at the days after a paginated session's own",
		"found && (f.rollout || mode != codec.HistoryPaginated) {", "found && (f.rollout || mode != \"\" || true) {", "listing", "TestFind",
	},

	// Transcripts.
	{
		replay + "/html.go", "the escaping of what a session says",
		"htmlEscaper.WriteString(h.w, Clean(line))", "h.w.WriteString(Clean(line))", replay, "TestHTMLIsInert",
	},
	{
		replay + "/html.go", "the kinds of images that are shown",
		`|| kind != "png" && kind != "jpeg" && kind != "gif" && kind != "webp" {`, `|| kind == "" {`, replay, "TestHTMLIsInert",
	},
	{
		replay + "/html.go", "the policy against what a page might load",
		"default-src 'none'; ", "", replay, "TestHTMLPolicy",
	},
	{
		replay + "/markdown.go", "the escape of HTML in a message",
		"case '<', '[', ']', '&':", "case '[', ']', '&':", replay, "TestMarkdownKeepsItsStructure",
	},
	{
		replay + "/markdown.go", "the escape of headings in a message",
		`strings.IndexByte(" \t>", body[i-1]) >= 0 {`, "false {", replay, "TestMarkdownKeepsItsStructure",
	},
	{
		replay + "/markdown.go", "the length of a fence",
		`strings.Repeat("` + "`" + `", longest+1)`, `strings.Repeat("` + "`" + `", min(longest+1, 3))`, replay, "TestMarkdownKeepsItsStructure",
	},
	{
		replay + "/clean.go", "the look for characters that turn text around",
		"unicode.Is(unicode.Bidi_Control, r) ||", "", replay, "TestClean",
	},
	{
		replay + "/json.go", "the escape of control characters in JSON",
		"r != utf8.RuneError && isHarmful(r)", "false && isHarmful(r)", replay, "TestGolden",
	},
	{
		replay + "/redact.go", "the mask",
		`s = r.shape.ReplaceAllString(s, "${1}[redacted: "+r.what+"]${2}")`, "_ = r.what", replay, "TestRedactText",
	},
	{
		replay + "/entry.go", "the redaction of a change of a file",
		"f(&e.Files[i].Diff)", "", replay, "TestRedactReachesEverything",
	},
	{
		replay + "/waiting.go", "the limit of what waits for a result",
		"(len(q.waiting) > maxWaitingEntries || q.size > maxWaitingBytes)", "false", replay, "TestEntriesWaitingIsBounded",
	},
	{
		replay + "/follow.go", "the compare with what was read before",
		"!bytes.Equal(was[:n], f.tail)", "false && bytes.Equal(was[:n], f.tail)", replay, "TestFollow",
	},

	// What the model is told.
	{
		"replay/walk.go", "the turns that a rollback takes back, with their compactions",
		"if w.rollbacks > 0 {", "if false {", "replay", "TestReconstruct",
	},
	{
		"replay/walk.go", "the turn of an end",
		"if s.used && compatible {", "if s.used {", "replay", "TestReconstruct",
	},
	{
		"replay/state.go", "the compactions that were taken back",
		"return true, nil // taken back", "h.replace(c.ReplacementHistory)", "replay", "TestReconstruct",
	},
	{
		"replay/state.go", "the loss of a line that has several records",
		"case !rec.Alone:", "case false:", "replay", "TestReconstruct",
	},
	{
		"replay/history.go", "the answer to a call that has none",
		`if isCall && e.callID != "" && !outputs[output+e.callID] {`, "if false {", "replay", "TestReconstruct",
	},
	{
		"replay/lineage.go", "the length check of a base",
		"if size := f.Info().Size; size >= 0 && end > size {", "if size := f.Info().Size; false && end > size {", "replay", "TestReconstructLineage",
	},
	{
		"replay/lineage.go", "the look for a base that is its own",
		"case seen[base.Rollout]:", "case seen[base.Rollout] && len(l.stretches) > 50:", "replay", "TestReconstructLineage",
	},
	{
		"replay/lineage.go", "reading more than was asked for",
		"from := max(0, min(off, end-max(r.next, minWindow)))", "from := off", "replay", "TestReconstructReadsTheTail",
	},

	// What looks at a home, and mends it.
	{
		"doctor/mend.go", "the second look before a file is moved away",
		"case rel != equal && rel != shorter:", "case false && rel != equal:", "doctor", "TestMendLooksAgain",
	},
	{
		"doctor/mend.go", "the lock of Codex's maintenance",
		"} else if !ok {", "} else if false && !ok {", "doctor", "TestMendLooksAgain",
	},
	{
		"doctor/mend.go", "the look for what is kept already",
		"if _, err := m.Home.Lstat(to); !errors.Is(err, fs.ErrNotExist) {", "if _, err := m.Home.Lstat(to); false {", "doctor", "TestMendLooksAgain",
	},
	{
		"doctor/mend.go", "the refusal to keep files among the sessions",
		`strings.HasPrefix(m.Keep+"/", sessionsDir+"/")`, "false", "doctor", "TestMendLooksAgain",
	},
	{
		"doctor/across.go", "the compare of two files",
		"case !bytes.Equal(pa[:min(n, m)], pb[:min(n, m)]):", "case false && bytes.Equal(pa, pb):", "doctor", "TestExamine",
	},
	{
		"doctor/across.go", "the file that Codex knows by its path",
		"rel == equal || rel == shorter || rel == longer && f.Kind == Forms", "rel != different", "doctor", "TestExamine",
	},
	{
		"doctor/locks.go", "the look who holds a lock",
		"if ok, err := l.TryLock(); !ok || err != nil {", "if _, err := l.TryLock(); err != nil {", "doctor", "TestExamineWhileWritten",
	},
	{
		"doctor/check.go", "the look whether somebody is writing",
		"case c.moving:", "case false:", "doctor", "TestExamineWhileWritten",
	},
	{
		"mirror/status.go", "the compare of versions for what is pending",
		"ok && was.Version == r.Info.Version &&", "ok &&", "mirror", "TestStatus",
	},
	{
		"mirror/progress.go", "the count of each byte once",
		"if more := r.n - r.watch.sent; more > 0 {", "if more := int64(n); more > 0 {", "mirror", "TestPushProgress",
	},
	{
		"mirror/progress.go", "the size that is known when it was read",
		"w.progress.Bytes.Add(size - c.planned())", "_ = c.planned", "mirror", "TestPushProgressIsCorrected",
	},
	{
		"mirror/push.go", "the plan of what waited",
		"p.Progress.plan(parent)", "_ = parent", "mirror", "TestPushProgressIsCorrected",
	},

	// Unattended.
	{
		"cmd/rollout-sync/main.go", "the force of a second signal",
		"signal.Reset(os.Interrupt, syscall.SIGTERM)", "_ = signal.Reset", "cmd/rollout-sync", "TestPushIsForced",
	},
	{
		"cmd/rollout-sync/places.go", "the end of the wait for another run",
		"errors.Is(err, mirror.ErrLocked) && time.Now().Before(end);", "errors.Is(err, mirror.ErrLocked) && end.IsZero();", "cmd/rollout-sync", "TestWait",
	},
	{
		"cmd/rollout-sync/metrics.go", "the run that was kept out and leaves the metrics alone",
		"if errors.Is(err, mirror.ErrLocked) {", "if errors.Is(err, mirror.ErrLocked) && false {", "cmd/rollout-sync", "TestMetricsFileIsLeft",
	},
	{
		"cmd/rollout-sync/log.go", "the silence of quiet",
		"case !a.json && !a.quiet:", "case !a.json:", "cmd/rollout-sync", "TestLogFlags",
	},
	{
		"mirror/scan.go", "the compare of what is looked at instead of listed",
		"return f.Info().Version == version, f.Close()", "return true, f.Close()", "mirror", "TestPushIntoCrowd",
	},
	{
		"mirror/index.go", "the end of a listing that costs more than it saves",
		"if left == 0 {", "if false {", "mirror", "TestPushIntoCrowd",
	},
	{
		blob + "/file.go", "the context that does not lead back to its reader",
		"if opened.Load() && resumes.Add(1) > maxResumes {", "if opened.Load() && resumes == b.resumes && resumes.Add(1) > maxResumes {", blob, "TestReadingKeepsNothing",
	},
	{
		"mirror/place.go", "the look for secrets under a rollout's name",
		"if err := refuse(ctx, src.f); err != nil {", "if err := refuse(ctx, src.f); err != nil && false {", "mirror", "TestPushRefusesSecrets",
	},
	{
		"cmd/rollout-sync/places.go", "the refusal of plain HTTP",
		"if err = a.encrypted(ctx, u, b); err != nil {", "if err = error(nil); err != nil {", "cmd/rollout-sync", "TestScripts/insecure",
	},
	{
		"cmd/rollout-sync/places.go", "the cut of a URL's parameters in an error",
		"return query.ReplaceAllString(e.error.Error(), \"$1$2\")", "return e.error.Error()", "cmd/rollout-sync", "TestNoSecretIsWritten",
	},
	{
		"cmd/rollout-sync/push.go", "the end of a push of which the mirror takes nothing",
		"if refused.times == maxRefused {", "if refused.times < 0 {", "cmd/rollout-sync", "TestMirrorRefuses",
	},

	// The catalog.
	{
		"catalog/catalog.go", "the hash of a file of the catalog",
		"if hex.EncodeToString(h.Sum(nil)) != string(at) {", "if false {", "catalog", "TestDecodeDamaged",
	},
	{
		"catalog/catalog.go", "the types of a file's columns",
		"if err := check(f.Schema(), schema); err != nil {", "if err := error(nil); err != nil {", "catalog", "TestOtherColumns",
	},
	{
		"catalog/reader.go", "the version that a row is of",
		"row := d.rows[key{ObjectOf(name), version}]", "row := d.rows[key{ObjectOf(name), \"\"}]\nfor k, r := range d.rows {\nif k.object == ObjectOf(name) {\nrow = r\n}\n}", "mirror", "TestCatalogListsTheSame",
	},
	{
		"catalog/row.go", "what a row leaves out of a head",
		"r.Abridged = !reflect.DeepEqual(h, r.head())", "_ = reflect.DeepEqual(h, r.head())", "catalog", "TestRowsComeBack",
	},
	{
		"mirror/catalog.go", "the rows of a push that could not write them",
		"r, ok := p.rows[name]\n\t\tif !ok {", "r, ok := p.rows[name]\n\t\tif false {", "mirror", "TestCatalogLater",
	},
	{
		"mirror/forget.go", "the rows of what is forgotten",
		"if err := f.rows(ctx); err != nil {", "if err := error(nil); err != nil {", "mirror", "TestForget",
	},
	{
		"listing/known.go", "the time of what is known",
		"f.info.ModTime, f.info.Meta, f.info.Seekable = k.Info.Size, k.Info.ModTime,", "f.info.Meta, f.info.Seekable = k.Info.Size,", "listing", "TestKnownListsTheSame",
	},
	{
		"catalog/reader.go", "what other dates have spared",
		"|| r.spared.Load() >= int64(requests)", "|| false && r.spared.Load() >= int64(requests)", "catalog", "TestReaderCost",
	},

	// Searches.
	{
		"index/write.go", "the version of what was indexed",
		"k := keyOf(p.path, p.version)", "k := keyOf(p.path, \"\")", "index", "TestAnotherVersionOfTheSchema",
	},
	{
		"index/place.go", "the words that an index does not have",
		"AND key IS NOT NULL AND NOT more", "AND key IS NOT NULL", "index", "TestHugeEntry",
	},
	{
		"index/index.go", "the damage that SQLite finds",
		"code == sqlite3.SQLITE_CORRUPT || code", "code", "index", "TestDamage",
	},
	{
		"listing/item.go", "the files of a rollout that are not ruled out",
		"!slices.ContainsFunc(n.files, func(f *file) bool { return !f.skip() })", "n.files[0].skip()", "listing", "TestSkip",
	},
	{
		"listing/scan.go", "the order of what is kept of a large directory",
		"\t\theap.Init(l)", "\t\t_ = l", "listing", "TestFlatDirectory",
	},
	{
		"search/search.go", "what an index rules out before it is listed",
		"return w.answered() && x.rulesOut(path, version)", "return w.answered() && x.without != nil", "search", "TestSearchIsExact",
	},
	{
		"search/raw.go", "the letters that JSON escapes",
		"if f.escaped(read) {", "if false && f.escaped(read) {", "search", "TestSearchIsExact",
	},
	{
		"listing/listing.go", "the parts of a long page",
		"min(limit-len(items), maxBatch)", "limit-len(items)", "listing", "TestLongPage",
	},
	{
		"codec/head.go", "the wait of heads with long lines",
		"lines.alone = longHeads", "lines.alone = nil", "codec", "TestLongHeadsWait",
	},
	{
		"replay/summary.go", "the room for a long line",
		"s.part = append(make([]byte, 0, 2*n), s.part...)", "_ = n", replay, "TestSummaryMemory",
	},
	{
		"replay/glance.go", "the records that are glued to a line",
		"if i += n; bytes.HasPrefix(b[i:], []byte(recordStart)) {", "if i += n; false {", replay, "TestSummaryIsThatOfEntries",
	},
}
