# The commands for working on Pillion, by hand and in CI. run, test and build need only Go and make.

.DEFAULT_GOAL := help
.SHELLFLAGS := -eu -c

GO ?= go
BIN := $(CURDIR)/bin

# Programs are static. --version tells the commit if git knows it, whatever GOFLAGS says. Without
# locks git writes nothing, so a build changes no folder, and results of tests are kept.
BUILD = GIT_OPTIONAL_LOCKS=0 CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' \
  $(if $(shell git rev-parse HEAD 2>/dev/null),-buildvcs=true)

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: pillion ## Run the whole system in one process, with NATS inside and two demo accounts. ARGS='--help' passes flags on.
	@exec $(BIN)/pillion --demo $(ARGS)

.PHONY: city
city: pillion ## Run the whole system like make run, with a small city of simulated users and riders, whose requests are not logged.
	@exec $(BIN)/pillion --demo --city --log-level=warn $(ARGS)

# The program is built and run itself, and not by go run, so that signals and statuses are its own.
.PHONY: pillion
pillion:
	@echo "Building Pillion; the first time this takes some minutes."
	@$(BUILD) -o $(BIN)/ ./cmd/pillion

.PHONY: certs
certs: pillion ## Create a CA and certificates in data/certs for trying TLS, if they are missing. RENEW=1 replaces them.
	@$(BIN)/pillion certs init $(if $(RENEW),--renew)

# Tests of whole systems mostly wait, so two packages more than there are processors run at a time.
AT_ONCE := $(shell expr "$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)" + 2)

# The tests of whole systems take longest, so they come first.
PACKAGES = ./test/... ./bus/... ./...

.PHONY: test
test: build ## Run all tests that need only Go, and keep their results until something changes.
	CGO_ENABLED=0 $(GO) test -trimpath -vet=off -timeout=20m -p=$(AT_ONCE) -parallel=3 $(PACKAGES)

# The race detector compiles everything a second time and doubles what the tests cost, so it is here
# and not in test. By default it sleeps for a second at the end of each test binary.
RACE := GORACE=atexit_sleep_ms=50 $(GO) test -race

# The long forms of the tests, and those that need more than Go.
LONG := PILLION_WEB=1 PILLION_README=1 PILLION_POSTGRES=1 PILLION_PROMETHEUS=1 PILLION_LONG=1 PATH="$(BIN):$$PATH"

.PHONY: check
check: need-race fmt build lint tidy vuln $(BIN)/nats ## Run what CI runs: linters, and all tests in long form and in random order; those of packages with the race detector. Needs a C compiler, curl and PostgreSQL; Chromium and Prometheus, if they are there, test the page and the alerts.
# In ./test the programs are processes of their own, where the race detector would see nothing.
	$(LONG) CGO_ENABLED=0 $(GO) test -trimpath -vet=off -timeout=20m -shuffle=on -p=$(AT_ONCE) -parallel=3 ./test/...
	$(LONG) $(RACE) -vet=off -timeout=20m -shuffle=on -p=3 $$($(GO) list ./bus/... ./... | grep -v /test/)
	HOURS=1 SEED=2 CGO_ENABLED=0 $(GO) test -trimpath -vet=off -run='^TestHour$$' -count=1 -v ./cmd/internal/wiring
	cd tools && CGO_ENABLED=0 $(GO) test -trimpath -vet=off ./dashboards
	$(MAKE) k8s

.PHONY: k8s
k8s: ## Check the manifests of deploy/k8s against the types and rules of Kubernetes. Its module is apart from the programs'.
	cd deploy/k8s/check && CGO_ENABLED=0 $(GO) test -trimpath ./...

# Where the database cannot be reached, nothing is built, and the message says what was not done.
VULNDB = $${GOVULNDB:-https://vuln.go.dev}

.PHONY: vuln
vuln: ## Look for known vulnerabilities in what the programs call. Needs the Go vulnerability database.
	@if curl -fsS --max-time 20 -o /dev/null "$(VULNDB)/index/db.json"; then \
	  $(MAKE) $(BIN)/govulncheck && $(BIN)/govulncheck -db "$(VULNDB)" ./...; \
	else echo "SKIPPED: known vulnerabilities were not looked for, because $(VULNDB) cannot be reached."; fi

.PHONY: check-long
check-long: check gateway-test ## Run check, the gateway, a hundred kills, long runs of the model, of the race and of random requests, a day of the city, two hundred rounds of chaos, and all mutations. This takes longer than CI allows.
	KILLS=100 CALLS=20000 RACES=150 PILLION_LONG=1 $(GO) test -run='^(TestKilledInGroups|TestModel|TestRace)$$' -count=1 -timeout=1h -v ./bus/ledger
	REQUESTS=20000 PILLION_LONG=1 $(GO) test -run='^TestAllRoutes$$' -count=1 -timeout=1h -v ./test/e2e
	PILLION_RELEASE=1 $(GO) test -run='^TestRelease$$' -count=1 -v ./test/commands
	DAYS=1 CGO_ENABLED=0 $(GO) test -trimpath -vet=off -run='^TestDay$$' -count=1 -timeout=2h -v ./cmd/internal/wiring
	$(MAKE) chaos ROUNDS=200
	$(MAKE) mutations

# Benchmarks of the built programs, from outside. ARGS are flags of package bench: ARGS='-pairs 9 -turn 5s', or
# ARGS="-before $$HOME/old/bin" to compare with programs of another commit.
BENCH = CGO_ENABLED=0 $(GO) test -trimpath -vet=off -run='^$$' -benchtime=1x -timeout=12h

.PHONY: bench
bench: ## Print the table of docs/performance.md: the system from outside, beside its limit. Takes a quarter of an hour on a quiet machine.
	$(BENCH) -bench='^BenchmarkTable$$' ./test/bench -args -charts '$(BIN)/bench.json' $(ARGS)

.PHONY: bench-curves
bench-curves: ## Measure a growing ledger and a cluster, after bench, and draw the pictures of docs/performance.md. Takes half an hour.
	$(BENCH) -bench='^Benchmark(History|Followers|Cluster)$$' ./test/bench -args -charts '$(BIN)/bench.json' $(ARGS)
	cd tools && CGO_ENABLED=0 $(GO) run -trimpath ./benchplot '$(BIN)/bench.json' ../docs/performance

.PHONY: bench-parts
bench-parts: ## Run the benchmarks of single parts. docs/performance.md says what each is for.
	$(GO) test -run='^$$' -bench=. -benchtime=3s -p=1 -timeout=60m $$($(GO) list ./... | grep -v /test/bench)

ROUNDS ?= 60

.PHONY: chaos
chaos: ## Break a cluster while it is used, ROUNDS=60 times. SEED=n repeats a run; FAULT=text selects faults by name. See docs/chaos.md.
	ROUNDS=$(ROUNDS) $(GO) test -run='^TestChaos$$' -count=1 -timeout=6h -v ./test/chaos

.PHONY: mutations
mutations: ## Check that a test fails for each fault in docs/mutations.md. ONLY=text selects faults by name.
	MUTATIONS='$(or $(ONLY),all)' $(GO) test -run='^TestMutations$$' -count=1 -timeout=2h -v ./test/mutations

.PHONY: web-test
web-test: ## Take rides on the page in a browser, by mouse and by keyboard. Needs Chromium. SHOTS=1 also takes pictures of it, in docs/page.
	PILLION_WEB=1 PILLION_SHOTS='$(SHOTS)' CGO_ENABLED=0 $(GO) test -trimpath -count=1 -timeout=20m -v ./test/page

.PHONY: gateway-test
gateway-test: $(BIN)/caddy ## Run Caddy before two instances of each service, and kill some. Needs Linux. The first time this builds Caddy.
	cd deploy/caddy && $(GO) mod tidy -diff
	PILLION_GATEWAY=1 PATH="$(BIN):$$PATH" CGO_ENABLED=0 $(GO) test -trimpath -vet=off -count=1 -timeout=20m -v ./test/gateway

.PHONY: web-bench
web-bench: ## Count how often a second a browser draws the board with 2,000 moving riders and 500 open bookings. Needs Chromium.
	PILLION_WEB=1 CGO_ENABLED=0 $(GO) test -trimpath -vet=off -run='^$$' -bench='^BenchmarkBoard$$' -benchtime=1x -v ./test/page

.PHONY: build
build: ## Build static programs into bin/.
	$(BUILD) -o $(BIN)/ ./cmd/...

# The engine may run another system on other processors than this machine.
ENGINE = GOOS=linux GOARCH="$$(docker version -f '{{.Server.Arch}}')" $(BUILD)

.PHONY: prebuilt
prebuilt: ## Build what images need where there is no registry: programs in bin/linux, and its Dockerfile.
	$(ENGINE) -o $(BIN)/linux/ ./cmd/authsvc ./cmd/usersvc ./cmd/ridersvc ./cmd/pillion
	cd tools && $(ENGINE) -o $(BIN)/linux/ github.com/nats-io/natscli/nats
	sed -e '/^FROM .* AS build$$/,/^$$/d' -e 's| --from=build||' -e 's|/out/|bin/linux/|g' Dockerfile >$(BIN)/linux/Dockerfile

.PHONY: docker-test
docker-test: prebuilt ## Start the containers and book a ride. Needs a Docker engine and docker-compose, and no registry. PILLION_POSTGRES=1 also copies accounts to PostgreSQL.
	$(GO) test -tags=docker -count=1 -timeout=60m -v ./deploy/...

.PHONY: tools
tools: $(BIN)/nats ## Build the nats CLI into bin/, in the version of tools/go.mod. make lint builds the linters.

$(BIN)/golangci-lint: tools/go.mod tools/go.sum
	cd tools && CGO_ENABLED=0 $(GO) build -trimpath -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(BIN)/openapilint: tools/go.mod tools/go.sum $(wildcard tools/openapilint/*)
	cd tools && CGO_ENABLED=0 $(GO) build -trimpath -o $@ ./openapilint

$(BIN)/nats: tools/go.mod tools/go.sum
	cd tools && CGO_ENABLED=0 $(GO) build -trimpath -o $@ github.com/nats-io/natscli/nats

$(BIN)/caddy: deploy/caddy/go.mod deploy/caddy/go.sum
	cd deploy/caddy && CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o $@ github.com/caddyserver/caddy/v2/cmd/caddy

$(BIN)/govulncheck: tools/go.mod tools/go.sum
	cd tools && CGO_ENABLED=0 $(GO) build -trimpath -o $@ golang.org/x/vuln/cmd/govulncheck

# Archives of a commit are the same, byte for byte, wherever they are made: with the Go of go.mod, GNU
# tar, no paths of a machine, and the commit's time as that of all files.
PLATFORMS ?= linux/amd64 linux/arm64 darwin/arm64
RELEASE := $(BIN)/release

.PHONY: release
release: ## Build an archive of all programs for each of PLATFORMS, with checksums, into bin/release.
	rm -rf $(RELEASE) && mkdir -p $(RELEASE)
	epoch="$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)}"; \
	for platform in $(PLATFORMS); do \
	  name="pillion-$$(echo "$$platform" | tr / -)"; mkdir "$(RELEASE)/$$name"; \
	  GOOS="$${platform%/*}" GOARCH="$${platform#*/}" $(BUILD) -o "$(RELEASE)/$$name/" ./cmd/...; \
	  cp LICENSE README.md CHANGELOG.md "$(RELEASE)/$$name/"; \
	  tar -C $(RELEASE) --sort=name --mtime="@$$epoch" --owner=0 --group=0 --numeric-owner --mode=go=u,go-w \
	    -cf - "$$name" | gzip -9n >"$(RELEASE)/$$name.tar.gz"; \
	  rm -rf "$(RELEASE)/$$name"; \
	done; \
	cd $(RELEASE) && sha256sum *.tar.gz >SHA256SUMS && cat SHA256SUMS

.PHONY: fmt
fmt: ## Fail if a file is not formatted with gofmt.
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l $$(find . -name '*.go' -not -path './bin/*')); \
	if [ -n "$$unformatted" ]; then echo "gofmt these files:"; echo "$$unformatted"; exit 1; fi

# Go vet is one of the linters. They use what build has compiled.
.PHONY: lint
lint: $(BIN)/golangci-lint $(BIN)/openapilint ## Run the linters, of the code with the import rules of .golangci.yml, and of the OpenAPI documents.
	CGO_ENABLED=0 GOFLAGS=-trimpath $(BIN)/golangci-lint run
	$(BIN)/openapilint authsvc/openapi.yaml usersvc/openapi.yaml ridersvc/openapi.yaml web/door/openapi.yaml

.PHONY: tidy
tidy: ## Fail if go.mod or go.sum is not tidy.
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff
	cd deploy/k8s/check && $(GO) mod tidy -diff

.PHONY: clean
clean: ## Remove bin/. data/ stays.
	rm -rf $(BIN)

.PHONY: need-race
need-race:
	@if [ "$$($(GO) env CGO_ENABLED)" != 1 ] || ! command -v "$$($(GO) env CC | cut -d' ' -f1)" >/dev/null; then \
	  echo "make check needs a C compiler for the race detector. Install gcc or clang, or run make test." >&2; exit 1; fi
