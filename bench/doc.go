// Package bench measures rollout side by side with what its speed is promised
// against: in one run, in turns, over the same bytes, so that the ratio means
// something on a noisy machine. Absolute times mean little, and no test is timed.
//
// Each promise is a row, and make bench prints the table of them. A row is also one
// command that can be run by itself, at other sizes, see the commands' comments:
//
//	1  go run ./record -rows 1     lines recorded, beside write(2)
//	2  go run ./record -rows 2     lines recorded durably, beside fsync(2)
//	3  go run ./listing -rows 3    the first page of a home, beside Codex
//	4  go run ./reconstruct        the state of a long session, beside Codex and jq
//	5  go run ./push -rows 5       the first push, beside zstd and SHA-256, and rclone
//	6  go run ./push -rows 6       a push with nothing to do, beside rclone
//	7  go run ./listing -rows 7    the requests for the first page of a mirror
//	8  go run ./push -rows 8       the memory of every command
//
// The limit of a row is what a bare loop takes that does only what cannot be done
// without. A ratio is the median of the rounds, with the least and the most of them.
// What a row is measured by and cannot be had is named as missing. Data is generated,
// the same for the same seed, by the packages tree and session.
//
// What is promised of none, the choice of a JSON library, is a Go benchmark of this
// package.
package bench
