# Build, test, package and show tund. Everything goes to bin/ and dist/; nothing is
# installed but, where missing, the Debian packages of scripts/needs and the linter. Tests find
# no programs but what is declared there: with is followed by the groups that they may use.

version  := $(or $(VERSION),$(shell git describe --tags --always --dirty 2>/dev/null),dev)
BUILD    := -trimpath -tags netgo,osusergo
LDFLAGS  := -ldflags "$(LINK) -X main.version=$(version)"
PACKAGES := ./internal/... ./cmd/... ./docs/... ./packaging/... ./scripts/...
FUZZTIME := 3s
BENCHFLAGS :=
with     := scripts/with-needs
export VERSION ARCH DESTDIR PREFIX

.PHONY: build completion notices install deb test-deb apt-repo demo bench test lint race no-cgo e2e e2e-race fuzz rootfs test-system test-vm install-needs clean

build: ## the programs, in bin/
	go build $(BUILD) $(LDFLAGS) -o bin/ ./cmd/tund ./cmd/tunctl

completion: ## scripts that let shells complete commands and names of peers, in bin/completion
	mkdir -p bin/completion
	for shell in bash zsh fish; do go run $(BUILD) ./cmd/tunctl completion $$shell >bin/completion/tunctl.$$shell || exit 1; done

notices: ## what those want to be said whose work is linked in, in bin/notices
	mkdir -p bin
	packaging/notices >bin/notices

install: build completion notices ## the same files as the package's, below DESTDIR and PREFIX
	packaging/install

deb: ## the Debian package, in dist/; ARCH=arm64 and VERSION=1.2.0 for others
	scripts/install-needs deb
	packaging/build-deb dist

test-deb: ## the package as lintian and others judge it, and whether its bytes can be had again
	scripts/install-needs tools system deb
	$(with) tools system deb -- packaging/check-deb

apt-repo: deb ## a signed repository with the packages of dist/, in dist/apt
	packaging/make-apt-repo dist/apt dist/*.deb

demo: build ## two hosts, a tunnel, and everything it can do (root)
	scripts/install-needs tools
	$(with) tools -- go run ./e2e/demo -programs bin

bench: build ## tund beside other tunnels; writes docs/performance.md (root, 45 minutes)
	scripts/install-needs tools
	scripts/install-bench
	go run ./e2e/bench $(BENCHFLAGS)

test: install-needs ## everything, side by side; what CI runs (root)
	$(MAKE) --no-print-directory -j4 -k --output-sync=target test-system race e2e fuzz e2e-race lint test-deb no-cgo

lint: ## format, vet, linters
	test -z "$$(gofmt -l cmd docs e2e internal packaging scripts | tee /dev/stderr)"
	scripts/install-needs lint
	$(with) tools -- go vet ./...
	$(with) tools -- bin/golangci-lint run ./...

race: ## unit tests, with the floor plan, under the race detector
	$(with) tools deb -- go test -race -p 4 $(PACKAGES)

no-cgo: ## what is different where there is no C compiler
	CGO_ENABLED=0 $(with) tools -- go test $(BUILD) ./internal/aead ./cmd/tund

e2e: ## whole daemons in network namespaces (root)
	$(with) tools -- go test -count=1 -timeout 15m -parallel 12 ./e2e ./e2e/lab ./e2e/bench ./e2e/demo

e2e-race: ## the same with programs that look for data races
	TUND_RACE=1 $(with) tools -- go test -count=1 -timeout 15m -parallel 12 ./e2e

fuzz: ## every fuzz target for FUZZTIME
	$(with) tools -- scripts/fuzz $(FUZZTIME)

rootfs: install-needs ## what test-system boots, which it would make itself
	$(with) tools system deb -- scripts/make-rootfs bookworm trixie

test-system: ## the package on whole Debian systems, booted with systemd (root)
	scripts/install-needs tools system deb
	$(with) tools system deb -- go test -count=1 -timeout 15m -parallel 6 ./e2e/system

test-vm: ## set clocks and short memory, on a machine of its own that qemu emulates (root, amd64)
	scripts/install-needs tools system deb vm
	$(with) tools system deb vm -- go test -count=1 -timeout 30m -v ./e2e/vm

install-needs: ## what tests and demonstration need and this machine lacks
	scripts/install-needs tools system deb

clean: ## everything that was built
	rm -rf bin dist
