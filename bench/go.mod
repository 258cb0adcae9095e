module github.com/rollout-sync/rollout/bench

go 1.26.8

require github.com/rollout-sync/rollout v0.0.0

require (
	github.com/gofrs/flock v0.13.1 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/rollout-sync/rollout => ../
