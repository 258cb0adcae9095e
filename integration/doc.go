// Package integration tests rollout against real parts: object stores and a browser
// that are not ours and, in the directory codex, the real Codex; in the directory faults
// with what goes wrong around the program. It is a module of its own so that the weight
// of the servers stays out of rollout's.
//
// "go test ./..." needs no tool installed by hand but, for one test, a browser.
// versitygw (S3 over a directory) is pinned by the tool directive in go.mod, built
// into the build cache and run as a child process; fake-gcs-server (GCS) runs in this
// process. Both listen on loopback only, behind a proxy that counts requests and loses
// replies. Azurite, the Azure emulator, would need npm and is left out: package
// store/blob/azure is tested against a server of its own.
//
// The test of HTML transcripts needs Chromium, and is skipped where there is none;
// with ROLLOUT_CHROMIUM=require in the environment it then fails instead.
package integration
