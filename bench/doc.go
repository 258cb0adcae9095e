// Package bench measures rollout side by side with what its speed is promised
// against: in one run, over the same bytes, so that the ratio means something on
// a noisy machine. Absolute times mean little.
package bench
