# Needs Go and make. Everything else is pinned in the go.mod files.

# The race detector needs a C compiler; without one the tests run all the same.
RACE := $(shell command -v cc >/dev/null 2>&1 && [ "$$(go env CGO_ENABLED)" = 1 ] && echo -race)
MODULES := . integration bench

.PHONY: test check cross unit integration codex mutate soak bench fuzz

## test: everything that CI runs
test: check cross unit integration mutate

## check: format, vet and staticcheck of every module
check:
	@unformatted=$$(go tool gofumpt -l .); if [ -n "$$unformatted" ]; then echo "gofumpt would change:"; echo "$$unformatted"; exit 1; fi
	@set -e; for m in $(MODULES); do echo "check $$m"; (cd $$m && go vet ./...); done
	go tool staticcheck ./...

## cross: compiles without cgo, and for the systems that the tests do not run on; these
## without optimisation, which is quicker
cross:
	CGO_ENABLED=0 go build -o /dev/null ./cmd/rollout-sync
	GOOS=darwin GOARCH=arm64 go vet -gcflags='all=-N -l' ./...
	GOOS=windows go vet -gcflags='all=-N -l' ./...

## unit: the tests of this module. Those of the command start hundreds of processes, which
## the race detector makes ten times as slow; of its own goroutines there are few, and
## their tests run with it. So does a quarter of the simulation's worlds, and all without
unit:
	go test $(RACE) -timeout 20m $$(go list ./... | grep -v /cmd/)
	go test -timeout 20m ./cmd/...
	go test -run Simulation ./mirror
	go test $(RACE) -run 'Stats|Progress|Findings|Interrupted|Metrics' ./cmd/...

## integration: against real servers, programs and the real Codex. Prints at the end
## which parts took part; where MUST_RUN is a list, fails unless all of it did
MUST_RUN ?=
integration:
	@log=$$(mktemp) && parts=$$(mktemp) && trap 'rm -f "$$log" "$$parts"' EXIT && cd integration && echo "go test ./..." && \
	if ROLLOUT_PARTS="$$parts" go test -count=1 -timeout 20m -v ./... >"$$log" 2>&1; then grep '^ok' "$$log"; else cat "$$log"; exit 1; fi && \
	go run ./parts/table "$$parts" $(MUST_RUN)

## codex: all versions of the real Codex; fails where they cannot be run
codex:
	@parts=$$(mktemp) && trap 'rm -f "$$parts"' EXIT && cd integration && \
	ROLLOUT_CODEX_VERSIONS=all ROLLOUT_PARTS="$$parts" go test -count=1 -timeout 30m -v ./codex && \
	echo codex | go run ./parts/table "$$parts" /dev/stdin

## mutate: breaks each guarantee; the test that holds it has to notice. PART is which of
## them, as in 1/2
PART ?= 1/1
mutate:
	go run ./internal/mutate -part $(PART)

## soak: what takes too long for every change: 1,000 kills of a recorder and of each
## command that writes, a million steps of three homes and their mirror, sessions of a
## gigabyte to every object store, and MinIO, which that builds the first time
soak:
	go test ./recorder -run 'TestKill$$' -kills 1000 -timeout 30m -v
	go test ./mirror -run 'TestSimulation$$' -seeds 2000 -steps 500 -timeout 60m
	cd integration && go test ./faults -run TestKill -kills 1000 -timeout 30m -v
	cd integration && ROLLOUT_SOAK=1 go test -count=1 -timeout 60m -v .

## bench: what is promised of the speed, side by side in one run with what it is
## measured by, as one table: within 20 minutes on two processors. SIZE is tiny, default
## or full; CODEX and RCLONE are binaries to use instead of what make codex installs,
## and of what is built
SIZE ?= default
bench: bench-1,2,3,4,5,6,7,8

## bench-N: row N of that, or several, as in bench-5,6
bench-%:
	cd bench && go run ./all -rows $* -size $(SIZE) -codex "$(CODEX)" -rclone "$(RCLONE)"

## bench-stored: bytes stored for each byte of STORED MB of sessions, beside zstd and restic
STORED ?= 256
.PHONY: bench-stored
bench-stored:
	cd bench && go run ./stored -size $(STORED)

## bench-growth: requests and memory of every command over GROWTH sessions and ten times
## as many, and with ten times as many homes
GROWTH ?= 2000
.PHONY: bench-growth
bench-growth:
	cd bench && go run ./growth -sessions $(GROWTH)

## bench-catalog: time, requests, bytes and memory of each filter over a mirror of
## SESSIONS, by its catalog and by the heads of the sessions
SESSIONS ?= 1000000
.PHONY: bench-catalog
bench-catalog:
	cd bench && go run ./catalog -sessions $(SESSIONS)

## fuzz: each fuzz target for FUZZTIME
FUZZTIME ?= 30s
fuzz:
	@set -e; for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz || true); do \
			echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p; \
		done; \
	done
