# Farhop. Go, make and git are all that is needed; `make help` lists the rest.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

export CGO_ENABLED ?= 0

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STAMP   := -X main.version=$(VERSION)
BUILD   := go build -trimpath

# T is how long each fuzz target runs, SEED and WORLDS choose virtual worlds,
# SEED and ROUNDS what happens to real nodes, IMAGES how often a disk forgets.
# PKG and RUN narrow tests down, ARGS go to what a target runs.
T      ?= 30s
SEED   ?= 1
WORLDS ?= 200
ROUNDS ?= 200
IMAGES ?= 20000
HOURS  ?= 10000
PKG    ?= ./...
RUN    ?= .

# Packages with goroutines, and the drivers of the core.
CONCURRENT = ./broker/... ./cmd/... ./node ./node/admin/... ./node/dtn ./node/link/... ./node/stream/... \
             ./sim/bench/... ./sim/demo/... ./sim/emulator/... ./sim/virtual ./storeforward/boltstore ./storeforward/journal/... \
             ./storeforward/memstore ./storeforward/vfs

# The linter is built once per version, by the Go toolchain itself.
LINT_VERSION := v2.15.0
TOOLS        := $(CURDIR)/bin/tools
LINT         := $(TOOLS)/golangci-lint-$(LINT_VERSION)

# What bench-failover and bench-near measure beside.
NATS_VERSION   := v2.12.4
NEBULA_VERSION := v1.9.7
NGINX          ?= /usr/sbin/nginx

# Ceilings of the stripped binary, in bytes. The doors to other DTN stacks, the
# journal beside bbolt, the commands for queues and stores, and moving between
# the engines took 1.9 MB. Listeners, ways to authenticate, the bridge, groups
# and retained messages across the mesh, and their measurements took 1.4 MB.
# Sessions, taps, $$SYS, receipts, wills, region states, enhanced
# authentication and the measurements of memory took 0.7 MB. Sessions that
# follow their clients, limits and what measures hostile clients took 0.3 MB.
# Salvo, with parity in the vector instructions of each machine, large bundles
# in parts, profiles, the emulator's faults and its API, and what measures links
# took 2.1 MB on amd64 and 0.9 MB on the others. TLS over TCP, first flights,
# ping, netcheck with its look into QUIC, bundles by file, ways around, and what
# measures them took 1.0 MB. Several links to one node, sessions made anew, what
# is put away of far links, and links of demo and worlds by file took 0.3 MB.
SIZE_amd64 := 25000000
SIZE_arm64 := 21900000
SIZE_armv7 := 22100000

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/farhop for this machine
	$(BUILD) -ldflags '$(STAMP)' -o bin/farhop ./cmd/farhop

.PHONY: demo
demo: build ## three nodes, one of them behind a bad link (40 s)
	bin/farhop demo $(ARGS)

.PHONY: test
test: ## all tests (PKG=./node/... RUN=TestName)
	go test -timeout 20m -run '$(RUN)' $(PKG)

# MQTT.js and its codec are clients of the end-to-end tests and judges of ours.
NPM := $(TOOLS)/npm

.PHONY: clients
clients: $(NPM)/node_modules/mqtt-packet ## the MQTT clients of npm that tests talk to

$(NPM)/node_modules/mqtt-packet:
	npm install --no-audit --no-fund --no-save --prefix $(NPM) mqtt@5.16.0 mqtt-packet@9.0.2

.PHONY: race
race: ## tests of everything concurrent under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race -timeout 15m -run '$(RUN)' $(CONCURRENT)

.PHONY: check
check: fmt vet lint arch tidy test ## what a change has to pass

.PHONY: fmt
fmt: ## fail when a file is not formatted
	@files=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [[ -n $$files ]]; then echo "not formatted (run gofmt -w):"; echo "$$files"; exit 1; fi

.PHONY: format
format: $(LINT) ## format all files as fmt and lint want them
	$(LINT) fmt ./...

.PHONY: vet
vet: ## go vet
	go vet ./...

.PHONY: lint
lint: $(LINT) ## golangci-lint, built on first use
	$(LINT) run ./...

$(LINT):
	@echo "building golangci-lint $(LINT_VERSION), once, a few minutes ..."
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) GOFLAGS= go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	@mv $(TOOLS)/golangci-lint $@

# Both are external tests that need no other file: they run, and tell what is
# wrong, while the package beside them does not compile.
.PHONY: arch
arch: ## who may import whom, and what is pure
	go test ./node/arch_test.go

.PHONY: tidy
tidy: ## sizes, comments, state, text
	go test ./node/arch_test.go ./node/tidy_test.go ./node/timers_test.go

.PHONY: fuzz
fuzz: ## every fuzz target for T=30s (PKG=./node/wire)
	@go list -f '{{.Dir}}' $(PKG) | while read -r dir; do \
		{ grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go || true; } | while read -r _ target; do \
			echo "== $${dir#$(CURDIR)/} $$target"; \
			(cd $$dir && go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(T) -fuzzminimizetime 5x . </dev/null); \
		done; \
	done

.PHONY: bench
bench: ## message cycles a second of the core (gate: 300,000), then the other paths
	go test -run '^$$' -bench '$(RUN)' -benchmem ./node/core
	go test -run '^$$' -bench '$(RUN)' -benchmem ./node/wire ./routing/... ./storeforward/bundle ./storeforward/memstore

.PHONY: bench-io
bench-io: ## disk, QUIC, MQTT and the link emulator: figures of this machine
	go test -run '^$$' -bench '$(RUN)' -benchmem ./storeforward/boltstore ./node/link ./broker ./sim/emulator

# BACKLOG is how many bundles wait in the second half of bench-store.
BACKLOG ?= 10000000

.PHONY: bench-store
bench-store: build ## the buffer beside its disk, pebble, SQLite, NATS, and with 10 million waiting (45 min; root, strace; ARGS=-quick)
	cd sim/bench/peers && $(BUILD) -o $(CURDIR)/bin/bench-store .
	bin/bench-store $(ARGS) | tee bin/bench-store.md
	bin/bench-store slowread bin/farhop bench store --backlog $(BACKLOG) --size 256 --producers 256 --json | tee bin/bench-backlog.json

.PHONY: bench-mqtt
bench-mqtt: build ## the broker beside Mosquitto: workloads, idle clients, sessions, the Moon's link, attackers (25 min)
	bin/farhop bench mqtt --rounds 5 $(ARGS)
	bin/farhop bench mqtt --idle 19000
	bin/farhop bench mqtt --sessions 1000000
	bin/farhop bench mqtt --moon
	bin/farhop bench mqtt --tsung # apt-get install tsung
	bin/farhop bench mqtt --hostile

.PHONY: bench-link
bench-link: build ## how much of a link the nodes fill: the Moon's with loss, bursts and a thin way back, and this machine's own (8 min)
	bin/farhop bench link --delay 1.28s --loss 1% --rate 50mbit --bytes 64MiB $(ARGS)
	bin/farhop bench link --delay 1.28s --loss 1% --rate 50mbit --return 256kbit --bytes 64MiB $(ARGS)
	bin/farhop bench link --delay 1.28s --loss 1% --burst 10 --rate 50mbit --bytes 64MiB $(ARGS)
	bin/farhop bench link --layer quic --bytes 256MiB $(ARGS)
	bin/farhop bench mqtt --moon --loss 1% $(ARGS)
	go test -v -run Goodput ./node/salvo # in virtual time: ten minutes of light, heavy loss
	go test -v -count 1 -run 'Ratio|OnePass' ./sim/virtual -full # in virtual time: beside stock quic-go, which takes hours; 20 minutes of round trip
	go test -v -count 1 -run FarTransfer ./node -farseeds 20 # the same from store to store

# MISHAPS is how many flaps, cuts, rebinds and restarts soak-links and
# soak-processes play.

.PHONY: soak-links
soak-links: ## whole nodes in virtual time: MISHAPS=10000 flaps, half-open cuts, rebinds, restarts and kills (4 min; SEED=1)
	go test -count 1 -timeout 60m -run 'TestSoak$$' ./node -soak $(or $(MISHAPS),10000) -soakseed $(SEED)

.PHONY: soak-processes
soak-processes: build ## real processes and clients: MISHAPS=500 flaps, half-open cuts, rebinds, restarts and kills, several at once (20 min; SEED=1)
	go build -o bin/farhop-crash ./sim/crash
	bin/farhop-crash -farhop bin/farhop -mishaps $(or $(MISHAPS),500) -seed $(SEED) -json $(ARGS) | tee bin/soak-processes.json

.PHONY: bench-failover
bench-failover: build ## how soon nodes go around a black hole, with every processor busy, beside NATS (5 min; builds nats-server into bin/peers)
	GOBIN=$(CURDIR)/bin/peers go install github.com/nats-io/nats-server/v2@$(NATS_VERSION)
	bin/farhop bench failover --busy --peer nats=$(CURDIR)/bin/peers/nats-server $(ARGS)

.PHONY: bench-contact
bench-contact: build ## first message and link up after the start of a contact, both nodes started again before it (5 min)
	bin/farhop bench contact --delay 1.28s --rate 50mbit $(ARGS)

.PHONY: bench-near
bench-near: build ## a TCP service through two nodes side by side, beside nginx, quic-go and Nebula (3 min; root, nginx with its stream module; builds nebula into bin/peers)
	GOBIN=$(CURDIR)/bin/peers go install github.com/slackhq/nebula/cmd/nebula@$(NEBULA_VERSION) github.com/slackhq/nebula/cmd/nebula-cert@$(NEBULA_VERSION)
	bin/farhop bench near --rounds 5 --peer nginx=$(NGINX) --peer nebula=$(CURDIR)/bin/peers/nebula $(ARGS)

# CALM is how long bench-calm looks for false alarms.
CALM ?= 1h

.PHONY: bench-calm
bench-calm: build ## false alarms while every wire is full and every processor busy (CALM=1h)
	bin/farhop bench failover --busy --time $(CALM) $(ARGS)

.PHONY: bench-scale
bench-scale: build ## one broker with much in it: 19,000 sockets, a million sessions, ten million messages queued, a million retained (25 min)
	bin/farhop bench mqtt --idle 19000 $(ARGS)
	bin/farhop bench mqtt --sessions 1000000
	bin/farhop bench mqtt --queued 10000000
	bin/farhop bench mqtt --retained 1000000

.PHONY: bench-relay
bench-relay: build ## what a node costs that only passes bundles on: stored and volatile
	bin/farhop bench relay --json $(ARGS)
	bin/farhop bench relay --json --volatile $(ARGS)

.PHONY: cross
cross: bin/farhop-linux-amd64 bin/farhop-linux-arm64 bin/farhop-linux-armv7 ## stripped static binaries for amd64, arm64, armv7

.PHONY: bin/farhop-linux-amd64 bin/farhop-linux-arm64 bin/farhop-linux-armv7
bin/farhop-linux-amd64 bin/farhop-linux-arm64:
	GOOS=linux GOARCH=$(@:bin/farhop-linux-%=%) CGO_ENABLED=0 $(BUILD) -ldflags '-s -w $(STAMP)' -o $@ ./cmd/farhop
bin/farhop-linux-armv7:
	GOOS=linux GOARCH=arm GOARM=7 CGO_ENABLED=0 $(BUILD) -ldflags '-s -w $(STAMP)' -o $@ ./cmd/farhop

.PHONY: size
size: cross ## fail when a binary grew over its ceiling
	@over=0; check() { \
		n=$$(wc -c < bin/farhop-linux-$$1); \
		printf '%-6s %5d kB of %5d kB\n' $$1 $$((n / 1000)) $$(($$2 / 1000)); \
		if (( n > $$2 )); then over=1; fi; }; \
	check amd64 $(SIZE_amd64); check arm64 $(SIZE_arm64); check armv7 $(SIZE_armv7); \
	if (( over )); then echo "too large: drop what grew it, or raise the ceiling in the Makefile and say why"; exit 1; fi

.PHONY: golden
golden: ## rewrite the golden files; commit only a diff you understand
	@go list -f '{{.Dir}}' $(PKG) | while read -r dir; do \
		if grep -qsE 'datadriven\.(RunTest|Walk)|flag\.Bool\("rewrite"' $$dir/*_test.go; then \
			(cd $$dir && go test -count=1 . -args -rewrite </dev/null); \
		fi; \
	done
	git status --short -- '*testdata*'

.PHONY: sim
sim: build ## play a virtual world (ARGS='moon' SEED=1)
	bin/farhop sim run $(ARGS) --seed $(SEED)

.PHONY: sim-soak
sim-soak: ## WORLDS=200 seeded meshes with crashes and cuts
	go test -count=1 -timeout 2h -run Mesh ./sim -args -soak $(WORLDS)

.PHONY: crash
crash: build ## kill real nodes ROUNDS=200 times and count what their users got (SEED=1)
	go build -o bin/farhop-crash ./sim/crash
	bin/farhop-crash -farhop bin/farhop -rounds $(ROUNDS) -seed $(SEED) $(ARGS)

.PHONY: mutants
mutants: ## plant bugs, each has to be found (ARGS='-short' or '-run NAME')
	go run ./sim/mutants $(ARGS)

.PHONY: worlds
worlds: ## HOURS=10000 virtual node-hours of faults, judged by every law at every step (ARGS='-seed N' plays one again)
	go test -count=1 -v -timeout 4h -run Laws ./sim -args -node-hours $(HOURS) $(ARGS)

.PHONY: images
images: ## IMAGES=20000 disks as power cuts leave them, each opened and compared with what was acknowledged
	go test -count=1 -timeout 24h -run CrashImages ./storeforward/journal -args -images $(IMAGES) $(ARGS)

.PHONY: soak
soak: ## IMAGES=20000 crash images of the journal, from where the last soak ended, then WORLDS=200 worlds
	go test -count=1 -timeout 24h ./storeforward/journal -run CrashImages -args -images $(IMAGES) -state $(CURDIR)/bin/soak.state
	$(MAKE) --no-print-directory sim-soak

.PHONY: cover
cover: ## coverage by package, and bin/cover.html
	@mkdir -p bin
	go test -timeout 10m -coverpkg=./... -coverprofile=bin/cover.out ./... | { grep -v 'no test files' || true; }
	go tool cover -html=bin/cover.out -o bin/cover.html
	@go tool cover -func=bin/cover.out | tail -1

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
