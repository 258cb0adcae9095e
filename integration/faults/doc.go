// Package faults puts the real program, rollout-sync, through what goes wrong around
// it: a network that delays, breaks, cuts off and falsifies, in front of a real S3
// server; kill -9; disks that are full or read-only; rights that are taken away; other
// runs at the same time. What is in a home and a mirror afterwards is judged by files,
// zstd and the bytes that the sessions had, and by nothing of rollout's own.
package faults
