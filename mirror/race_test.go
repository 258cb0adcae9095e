//go:build race

package mirror_test

// underRace has a simulation play a quarter of its worlds: the race detector makes it ten
// times as slow, and finds in a few what it finds in many.
const underRace = true
