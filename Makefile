# Lockstep's build. `make demo` and `make test` are all that a new user needs; both do their own set-up.

SEED    ?= 1
PROFILE ?= typical
SCALE   ?= 0.1
DEMO    ?=
TOOLS   := go tool -modfile=tools/go.mod

export CGO_ENABLED ?= 0

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## Run a canary under load on a local sandbox and report lost requests (SEED=, PROFILE=, SCALE=)
	./bin/lockstep demo --seed $(SEED) --profile $(PROFILE) --scale $(SCALE) --output out/demo.json $(DEMO)

.PHONY: test
test: controlplane clients ## Run every test
	go test -shuffle=on -timeout 20m ./...
	cd sandbox/controlplane && GOWORK=off go test -trimpath ./credentials

.PHONY: build
build: controlplane ## Build bin/lockstep and the sandbox's control plane
	go build -trimpath -o bin/lockstep ./cmd/lockstep

.PHONY: controlplane
controlplane: ## Build the sandbox's kube-apiserver, etcd and controllers (cached per user)
	go run ./sandbox/apiserver/build bin/controlplane

.PHONY: clients
clients: ## Install the AWS CLI and boto3 from Debian where missing, for the tests that drive the emulated AWS with them
	@./sandbox/aws/foreign/install.sh

.PHONY: thirdparty
thirdparty: build ## Run Argo Rollouts, external-dns and cloud-provider-aws, unmodified, on a sandbox (builds them first: about 20 min)
	cd sandbox/thirdparty && GOWORK=off go test -count=1 -timeout 60m -v .

.PHONY: soak
soak: ## Let bad clients at the emulated AWS for ten minutes (SOAK=)
	LOCKSTEP_SOAK=$(or $(SOAK),10m) go test -run '^$$' -bench Soak -benchtime 1x -timeout 60m ./sandbox/aws/soak ./sandbox/aws/dataplane/nlb

.PHONY: race
race: controlplane ## Run the tests that share memory under the race detector
	CGO_ENABLED=1 go test -race -shuffle=on -timeout 40m ./internal/... ./sandbox/... ./simulation/...

.PHONY: sim
sim: ## Try many random schedules in the simulation (SEEDS=)
	go test ./simulation/... -run TestLawsHold -count=1 -seeds=$(or $(SEEDS),2000)

.PHONY: bench
bench: build ## Run the benchmarks that docs/benchmarks.md quotes
	go test -run '^$$' -bench . ./internal/... ./sandbox/... ./simulation/...

.PHONY: fuzz
fuzz: ## Fuzz every parser of user input for a short time each (FUZZTIME=)
	@set -e; for target in internal/split:FuzzDecode internal/balancing/ingress:FuzzAnnotations \
		sandbox/aws:FuzzRequests sandbox/aws:FuzzSignatures sandbox/aws/wire:FuzzForms sandbox/aws/wire:FuzzDocuments sandbox/aws/wire:FuzzREST \
		sandbox/aws/cloudwatch:FuzzExpression sandbox/aws/policy:FuzzDecide sandbox/aws/dataplane:FuzzClient \
		sandbox/aws/dataplane:FuzzProxy sandbox/aws/dataplane:FuzzMatchers sandbox/aws/dataplane/desync:FuzzHead \
		sandbox/aws/dataplane/desync:FuzzBody sandbox/aws/dataplane:FuzzGlob sandbox/kubelet/app:FuzzBehaviour; do \
		echo "$$target"; go test "./$${target%:*}" -run '^$$' -fuzz "^$${target#*:}\$$" -fuzztime $(or $(FUZZTIME),20s) -fuzzminimizetime 10x; \
	done

.PHONY: generate
generate: ## Regenerate deepcopy functions and CRDs
	$(TOOLS) controller-gen object paths=./api/...
	$(TOOLS) controller-gen crd:allowDangerousTypes=true,maxDescLen=200 paths=./api/... output:crd:dir=deploy/crds

.PHONY: verify
verify: generate ## Fail when generated files are stale
	@git diff --exit-code -- api deploy || { echo "generated files are stale: run 'make generate' and commit the result" >&2; exit 1; }

.PHONY: lint
lint: verify ## gofmt, vet and staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	go vet ./...
	$(TOOLS) staticcheck ./...
	@# The nested module's main package is left to the compiler: vetting it would look through all of Kubernetes first, for minutes.
	cd sandbox/controlplane && GOWORK=off go vet -trimpath ./credentials
	cd sandbox/thirdparty && GOWORK=off go vet .

.PHONY: clean
clean: ## Remove what was built here
	rm -rf bin out
