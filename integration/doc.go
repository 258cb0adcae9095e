// Package integration tests rollout against real parts: object stores, tools and a
// browser that are not ours; in the directory codex, the real Codex; in the directory
// faults, networks, disks and processes that fail. It is a module of its own so that the
// weight of the servers stays out of rollout's.
//
// The object stores listen on loopback only, each on a port and over a directory of its
// own, behind a proxy that counts requests, loses replies and falls silent:
//
//	versitygw        S3 over a directory; pinned by the tool directive in go.mod, built
//	                 into the build cache, a child process
//	fake-gcs-server  GCS; pinned in go.mod, in this process
//	azurite          Azure; pinned by azurite/package-lock.json, a child process of node
//	minio            a second S3, only with ROLLOUT_SOAK in the environment, as in "make
//	                 soak", since it takes minutes to build; a child process
//
// The examples of docs/query.md are run by zstd and jq, as the system has them, and by
// DuckDB, pinned by duckdb/package-lock.json. The test of HTML transcripts needs
// Chromium; ROLLOUT_CHROMIUM may be its path.
//
// What npm or Go has to fetch is kept below the user's cache directory, see package
// tools. The tests of a part that cannot be had are skipped and say so; package parts
// keeps the account, and with MUST_RUN=must-run.txt "make integration" fails unless all
// that it names took part.
package integration
