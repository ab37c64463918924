# make demo     the gateway at work, in network namespaces of this machine
# make test     all tests
# make deb image sbom      Debian package, container image, list of linked modules: under bin/
# make release RELEASE_KEY=FILE      all three, SHA256SUMS, and its signature by that SSH key
# make bench    the tables of docs/PERFORMANCE.md, on a machine that does nothing else
# make generate what is written by programs: the tables in README.md and docs/REFERENCE.md,
#               the list of licences, the dashboards, the OpenAPI document, the manual page and completions
GO ?= go
BIN := bin
export GO BIN
# The profile by which the compiler optimises the program (docs/PERFORMANCE.md). Such a first build takes a minute or two longer.
PGO ?= cmd/kidoban/throughput.pgo
export VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

.PHONY: all deb image sbom release demo test bench generate build clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -pgo=$(PGO) -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN)/ ./cmd/...

deb image sbom release: build
	.ci/package/build $@

demo: PGO = off
demo: build
	@$(BIN)/kidoban-lab $(if $(STAY),--stay)

test:
	.ci/test

bench:
	cd gateway/e2e && $(GO) test -run '^Test(Performance|Growth)$$' -performance -timeout 90m
	$(GO) test -p 1 -run '^$$' -bench . -benchtime 1s ./...

generate:
	$(GO) test ./cmd/kidoban -run '^(TestREADME|TestReference)' -update
	$(GO) test ./dashboards -update
	$(GO) test ./gateway/api -run '^TestOpenAPI$$' -update

clean:
	rm -rf $(BIN)
