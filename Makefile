SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run build deb deb-test test chaos chaos-kafka bench-kafka bench-night bench-preview hostile test-postgres-versions subject fuzz broken bench bench-quick bench-segments bench-check bench-report lint fetch fmt abuse abuse-agents metrics-docs report-pictures tag tag-package clean-data

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 13

run: ## install, fetch, build and start it with a demo site and a database of its own
	@echo "1 of 4: installing what is missing"
	@script/setup run
	@echo "2 of 4: fetching device rules, geodata and names of models"
	@script/fetch rules
	@script/fetch --optional geodata models
	@echo "3 of 4: building$(if $(wildcard target/quick/avtryck),, (the first build takes about 3 minutes on two cores))"
	@# librdkafka's own flags are -g -O2; the last one counts.
	@CFLAGS="$$CFLAGS -O1 -g0" cargo build --profile quick --locked --bin avtryck
	@echo "4 of 4: starting (Ctrl-C stops it)"
	@script/fill_demo.py http://127.0.0.1:8080 data/demo_is_filled & target/quick/avtryck --config demo.toml serve

build: ## build the release binary
	@script/setup run
	@cargo build --release --locked

deb: build ## make a Debian package from it, in target/package
	@script/fetch rules
	@script/deb

deb-test: deb ## install that package on this machine, try it and purge it (as root)
	@script/deb_test target/package/*.deb

fetch: ## fetch the geodata, the device rules, the names of models and the test data
	@script/fetch geodata rules models test

lint: ## check formatting, spelling, scripts, code, documentation, dependencies and the patches of script/broken.d
	@script/setup lint
	@script/fetch lint
	@script/fetch --optional deny
	@cargo fmt --all --check
	@cargo fmt --manifest-path fuzz/Cargo.toml --check
	@cargo metadata --manifest-path fuzz/Cargo.toml --locked --filter-platform x86_64-unknown-linux-gnu --format-version 1 >/dev/null
	@for broken in script/broken.d/*.patch; do git apply --check $$broken || exit 1; done
	@assets/data/lint/typos
	@shellcheck --external-sources script/lib.sh $$(git grep --untracked -lE '^#!.*sh$$' -- script ops .ci)
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links -A rustdoc::bare_urls -A rustdoc::invalid_html_tags' cargo doc --quiet --workspace --no-deps --document-private-items --locked
	@script/deny

# A backtrace would stand between what a test found and the end of what CI shows.
test: export RUST_BACKTRACE = 0
# Most tests wait for others most of the time.
test: export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))
test: ## install, fetch, lint and run every test
	@script/setup test
	@script/fetch rules test geodata lint
	@script/fetch --optional kafka
	@$(MAKE) --no-print-directory lint
	@cargo test --workspace --locked

KILLS ?= 1000
RUN_KILLS ?= 200
OUTAGE_BYTES ?= 2147483648
SEEDS ?= 300000
PIXELS ?= 100000

POSTGRES_VERSIONS ?= 14 15 16 17 18

test-postgres-versions: ## run the tests of loader, schema and erasure on Postgres 14 to 18 (POSTGRES_VERSIONS)
	@script/setup test
	@script/fetch postgres
	@cargo test --locked --lib --no-run
	@for version in $(POSTGRES_VERSIONS); do \
		echo "Postgres $$version:"; \
		PATH="$(CURDIR)/assets/data/postgres/$$version/bin:$$PATH" \
			cargo test --locked --lib --quiet -- loader::instruction postgres::tests postgres::server postgres::subject || exit 1; \
	done

chaos: ## kill it, starve it, cut its connections: the tests of the promises, with large figures
	@script/setup test
	@script/fetch rules test geodata
	@SPOOL_SEEDS=$(SEEDS) SPOOL_CHUNK_BYTES=262144 LOADER_CUT_STEP=1 \
		cargo test --locked -p spool -p avtryck --lib -- simulation loader:: --nocapture
	@CHAOS_KILLS=$(KILLS) CHAOS_OUTAGE_BYTES=$(OUTAGE_BYTES) LOAD_PIXELS=$(PIXELS) \
		cargo test --locked --test it -- chaos:: load:: --nocapture --test-threads 1
	@IMPORT_KILLS=$(RUN_KILLS) EXPORT_KILLS=$(RUN_KILLS) SEGMENT_KILLS=$(RUN_KILLS) \
		cargo test --locked --lib --test it -- killed_anywhere wherever_it_is_killed --nocapture --test-threads 1
	@cargo test --locked --test it -- servers::failover --nocapture --test-threads 1 --include-ignored

KAFKA_KILLS ?= 200
KAFKA_CUTS ?= 200
KAFKA_SEED ?= 1
KAFKA_AWAY_SECONDS ?= 600
KAFKA_RATE ?= 5000

chaos-kafka: ## kill edges, loaders and brokers KAFKA_KILLS (200) times each, cut connections KAFKA_CUTS (200) times, and take the brokers away for KAFKA_AWAY_SECONDS (600) at KAFKA_RATE (5000)
	@script/setup test
	@script/fetch rules test geodata kafka
	@KAFKA_REQUIRED=1 KAFKA_KILLS=$(KAFKA_KILLS) KAFKA_CUTS=$(KAFKA_CUTS) KAFKA_SEED=$(KAFKA_SEED) \
		KAFKA_AWAY_SECONDS=$(KAFKA_AWAY_SECONDS) KAFKA_RATE=$(KAFKA_RATE) \
		cargo test --locked --test it -- load_from_kafka::chaos --ignored --nocapture --test-threads 1

NIGHT_SIGHTINGS ?= 8000000

bench-night: ## measure a night of households with NIGHT_SIGHTINGS (8000000) rows of sightings, beside 5,000 hits a second; alone on the machine
	@script/setup test
	@script/fetch rules test geodata
	@NIGHT_SIGHTINGS=$(NIGHT_SIGHTINGS) cargo test --locked --test it -- night:: --ignored --nocapture

SEGMENT_SUBJECTS ?= 10000000

bench-preview: ## measure previews of segments of SEGMENT_SUBJECTS (10000000) subjects; takes 10 GB of disk
	@script/setup test
	@SEGMENT_SUBJECTS=$(SEGMENT_SUBJECTS) cargo test --locked --lib -- a_preview_of_millions --ignored --nocapture

KAFKA_HITS ?= 200000

bench-kafka: ## measure what Kafka costs, with KAFKA_HITS (200000) hits: edge, sinks, avtryck load, bytes on the wire
	@script/setup test
	@script/fetch rules test geodata kafka
	@KAFKA_REQUIRED=1 KAFKA_HITS=$(KAFKA_HITS) CARGO_PROFILE_DEV_OPT_LEVEL=3 \
		cargo test --locked --test it -- load_from_kafka::cost --ignored --nocapture --test-threads 1

hostile: ## send slow, smuggling and greedy clients and check the promised figures (alone on the machine)
	@script/setup test
	@script/fetch rules test geodata
	@CONSENT_MUTATIONS=1000000 SPLIT_BATCHES=300000 cargo test --locked --lib -- allowance address:: visitor:: mutated_strings native::split --nocapture
	@HOSTILE_ALONE=1 cargo test --locked --test it -- hostile:: --nocapture --test-threads 1

SECONDS_OF_CLIMB ?= 600
SEED ?= 1

abuse-agents: ## look for user agents that are dear to recognise, for SECONDS_OF_CLIMB (600), by SEED; alone on the machine
	@script/setup test
	@script/fetch rules test
	@CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo run --locked -p loadtest --bin agents -- --seconds $(SECONDS_OF_CLIMB) --seed $(SEED)

ROWS ?= 10000000

subject: ## measure how long subject access and erasure take among ten million rows of 90 days
	@script/setup test
	@script/fetch rules test geodata
	@SUBJECT_ROWS=$(ROWS) cargo test --locked --test it -- ninety_days --nocapture

fuzz: ## give hostile bytes to each fuzz target, for FUZZ_SECONDS (60) each; TARGETS="query chunk" for some
	@script/fuzz $(TARGETS)

BENCH_SEED ?= 1

bench bench-quick:
	@script/setup bench
	@script/fetch rules test geodata
	@cargo build --release --locked --bins -p avtryck -p loadtest
	@target/release/bench --seed $(BENCH_SEED) $(BENCH)

bench: BENCH = --report loadtest/RESULTS.md
bench: ## measure what a hit costs, beside nginx and others (10 minutes; writes loadtest/RESULTS.md)
bench-quick: BENCH = --quick
bench-quick: ## print the same table in 90 seconds

SEGMENT_MEMBERS ?= 1000000

bench-segments: ## measure how quick pages are told their segments (SEGMENT_MEMBERS=1000000), beside 10,000 hits a second (2 minutes)
	@script/setup bench
	@script/fetch rules test geodata
	@cargo build --release --locked --bins -p avtryck -p loadtest
	@target/release/bench --segments --members $(SEGMENT_MEMBERS) --seed $(BENCH_SEED)

bench-report: ## measure how fast reports are read (REPORT_DAYS=30 of REPORT_DAY_HITS=100000; 5 minutes)
	@script/setup bench
	@CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo bench --locked --profile dev --bench report

SECONDS_EACH ?= 60
ROUNDS ?= 3
abuse: ## attack a release build, each way of loadtest/src/abuse (or ATTACKS) for a minute, beside honest hits
	@script/setup bench
	@script/fetch rules test geodata
	@cargo build --release --locked --bins -p avtryck -p loadtest
	@target/release/abuse --seconds $(SECONDS_EACH) --rounds $(ROUNDS) $(ATTACKS)

bench-check: ## count the instructions of a hit's pure parts; fail if one costs 5 % more than instructions.toml says
	@script/setup bench
	@script/fetch rules test geodata
	@BENCH_CHECK=1 CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo bench --locked --profile dev -p loadtest --bench pure

broken: ## break the build on purpose, in each way of script/broken.d (or CASES), and check that tests fail
	@script/setup test
	@script/fetch rules test geodata
	@script/broken $(CASES)

fmt: ## format the code
	@cargo fmt --all
	@cargo fmt --manifest-path fuzz/Cargo.toml

metrics-docs: ## write docs/metrics.md and docs/endpoints.md from the code
	@WRITE_DOCS=1 cargo test --locked --lib -- the_page_of_

report-pictures: ## draw the pictures of docs/reports.md, docs/report/*.svg, as avtryck report does
	@WRITE_DOCS=1 cargo test --locked --lib -- the_pictures_in_the_documentation

tag: ## minify assets/tag.js and its modules; needed after a change to them
	@script/fetch minifier
	@for name in '' $(basename $(notdir $(filter-out %.min.js,$(wildcard assets/module/*.js)))); do \
	  kept=assets/$${name:+module/}$${name:-tag}.min.js; \
	  script/minify_tag $$name >$$kept.new && mv $$kept.new $$kept || { rm -f $$kept.new; exit 1; }; \
	done

tag-package: ## build and pack the npm package of the tag, in target/
	@script/fetch minifier
	@script/tag_package

clean-data: ## remove what was fetched; the next run or test fetches it again
	@rm -rf .cache geoip/data assets/data
