# Everything that people and CI do with Pillion. Go and make are all that run, test and build need.

.DEFAULT_GOAL := help
.SHELLFLAGS := -eu -c

GO ?= go
BIN := $(CURDIR)/bin

# The race detector needs cgo and a C compiler. test uses it where it is there; check demands it.
CC_FOUND := $(shell [ "$$($(GO) env CGO_ENABLED)" = 1 ] && command -v "$$($(GO) env CC | cut -d' ' -f1)")
RACE := $(if $(CC_FOUND),-race)

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## Run the whole system in one process, with NATS inside and two accounts to try it with.
	$(GO) run ./cmd/pillion --demo

.PHONY: certs
certs: ## Make a CA and certificates in data/certs, for trying TLS. What is there stays; RENEW=1 renews them.
	$(GO) run ./cmd/pillion certs init $(if $(RENEW),--renew)

# Tests of whole systems wait for most of their time, so one package more than there are processors is under way.
AT_ONCE := $(shell expr "$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)" + 1)

# The race detector sleeps for a second at the end of each test binary, for reports that come late.
TEST := GORACE=atexit_sleep_ms=50 $(GO) test -timeout=20m

.PHONY: test
test: build ## Run every test that needs only Go (with the race detector where there is a C compiler). Results are kept: what has not changed is not run again.
	$(TEST) $(RACE) -p=$(AT_ONCE) -parallel=3 -vet=off ./...

.PHONY: check
check: need-race fmt vet lint tidy build $(BIN)/nats ## Run what CI runs: every test in its long form, in any order. Needs a C compiler, for the race detector, curl, for the README's commands, and PostgreSQL.
	PILLION_README=1 PILLION_POSTGRES=1 PILLION_LONG=1 PATH="$(BIN):$$PATH" $(TEST) -race -vet=off -shuffle=on ./...

.PHONY: check-long
check-long: check ## Run what needs more time than CI has: check, two hundred rounds of chaos, and every mutation.
	$(MAKE) chaos ROUNDS=200
	$(MAKE) mutations

.PHONY: bench
bench: ## Print the benchmarks, each beside its own limit. Takes a few minutes.
	$(GO) test -run='^$$' -bench=. -benchtime=3s -p=1 -timeout=60m ./...

ROUNDS ?= 60

.PHONY: chaos
chaos: ## Break a cluster again and again while it is used: ROUNDS=60 faults, of chance or of SEED=n, or those named like FAULT=text. See docs/chaos.md.
	ROUNDS=$(ROUNDS) $(GO) test -run='^TestChaos$$' -count=1 -timeout=6h -v ./test/chaos

.PHONY: mutations
mutations: ## Break the code on purpose and demand that a test fails: by each fault of docs/mutations.md, or those named like ONLY=text.
	MUTATIONS='$(or $(ONLY),all)' $(GO) test -run='^TestMutations$$' -count=1 -timeout=2h -v ./test/mutations

.PHONY: build
build: ## Build the programs into bin/, static.
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o $(BIN)/ ./cmd/...

.PHONY: docker-test
docker-test: build ## Bring the containers up and book a ride. Needs a Docker engine and docker-compose, and no registry.
	$(GO) test -tags=docker -count=1 -timeout=15m -v ./deploy/...

.PHONY: tools
tools: $(BIN)/golangci-lint $(BIN)/nats ## Build the linter and the nats CLI into bin/, in the versions that tools/go.mod names.

$(BIN)/golangci-lint: tools/go.mod tools/go.sum
	cd tools && CGO_ENABLED=0 $(GO) build -trimpath -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(BIN)/nats: tools/go.mod tools/go.sum
	cd tools && CGO_ENABLED=0 $(GO) build -trimpath -o $@ github.com/nats-io/natscli/nats

.PHONY: fmt
fmt: ## Fail where a file is not as gofmt leaves it.
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l $$(find . -name '*.go' -not -path './bin/*')); \
	if [ -n "$$unformatted" ]; then echo "gofmt these files:"; echo "$$unformatted"; exit 1; fi

.PHONY: vet
vet: ## Run go vet, also on what needs a build tag.
	$(GO) vet -tags=docker ./...

.PHONY: lint
lint: $(BIN)/golangci-lint ## Run the linters, the import rules of .golangci.yml among them.
	$(BIN)/golangci-lint run

.PHONY: tidy
tidy: ## Fail where go.mod or go.sum is not as go mod tidy leaves it.
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff

.PHONY: clean
clean: ## Remove bin/. Data stays.
	rm -rf $(BIN)

.PHONY: need-race
need-race:
	@if [ -z "$(CC_FOUND)" ]; then \
	  echo "make check needs the race detector, and that needs a C compiler. Install gcc or clang, or run make test without it." >&2; exit 1; fi
