// Package codex holds what is reconstructed against the real Codex. Its tests let
// several versions of it have real turns, over a model server of their own and
// without a network, then reconstruct the threads from their files, start Codex anew
// and compare with the input that it sends to the model for the next turn, item by
// item: it has to be what we reconstructed, then what that turn recorded in the file,
// and nothing else. All threads are then taken through a mirror by rollout-sync into a
// home without Codex's databases, and are there what they are here: by the list, turn
// by turn, and by the input of one turn more. Each thread of an older version is at
// last continued by the newest.
//
//	go test ./codex                                  two versions
//	ROLLOUT_CODEX_VERSIONS=all go test ./codex       all of them; or such as 0.150.0,0.98.0
//
// Where Codex cannot be run the tests are skipped, and package parts is told.
//
// npm downloads Codex into the user's cache directory the first time, 160 to 410 MB
// for each version. Running it needs Linux on amd64 and user namespaces.
package codex
