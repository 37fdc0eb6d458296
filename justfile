# The commands of this project; `just` alone lists them. CI runs `just ci`, which needs no just:
# it is `.ci/run`.

[private]
default:
    @just --list

# Every test of every package; `just test kills` runs those whose name has "kills"
test *filter:
    cargo test --workspace {{filter}}

# Formatting and lints, as CI checks them
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Formats everything
fmt:
    cargo fmt --all

# The documentation; warnings are errors
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Sells a real day and a hot item, crashes, recovers, audits: half a minute
demo *arguments:
    cargo run --release -- demo {{arguments}}

# Simulates the whole store with faults, seed after seed; `--seed S` replays one, step by step
sim *arguments:
    cargo run --release --package tidegate-reliability -- sim {{arguments}}
# Cuts recorded runs off from power, and opens what is left; `just power-loss --images 10000 --seed 1`
power-loss *arguments:
    cargo run --release -p tidegate-reliability -- power-loss {{arguments}}
# Kills a process that sells, again and again; `just kills --rounds 1000 --seed 7`
kills *arguments:
    cargo run --release -p tidegate-reliability -- kills {{arguments}}

# Kills a process that publishes and consumes; `just messages --rounds 500`, or --one-bad-among 100000
messages *arguments:
    cargo run --release -p tidegate-reliability -- messages {{arguments}}

# Kills a process that does all there is, and PostgreSQL beside it; `just everything --rounds 200`
everything *arguments:
    cargo run --release -p tidegate-reliability -- everything {{arguments}}

# Fails each call that a store makes of the system, one in each run; needs strace
io-faults *arguments:
    cargo run --release -p tidegate-reliability -- io-faults {{arguments}}

# Sells for minutes, over restarts and kills, and watches memory and disk
soak *arguments:
    cargo run --release -p tidegate-reliability -- soak {{arguments}}

# Runs the examples
examples:
    cargo run --quiet --example embedded
    cargo run --quiet --example flash_sale
    cargo run --quiet --example order_saga
    cargo run --quiet --example own_machine
    cargo run --quiet --example own_view
    cargo run --quiet --example risk_control

# The life of an order, by the Python client against a server of its own
client: release
    .ci/with_server "${CARGO_TARGET_DIR:-target}/release/tidegate" python3 examples/client.py
    .ci/with_server "${CARGO_TARGET_DIR:-target}/release/tidegate" python3 examples/consumer.py

# All that the OpenAPI document allows, and much that it doesn't, against a server of its own
schemathesis examples="50": release
    TIDEGATE_VIEWS__SALES=true \
        .ci/with_server "${CARGO_TARGET_DIR:-target}/release/tidegate" .ci/schemathesis {{examples}}

# A server under load, killed and ended this many times
http-kills rounds="50":
    TIDEGATE_ROUNDS={{rounds}} cargo test --test tidegate http_kills -- --nocapture

# Every benchmark, peers included: half an hour or more, then docs/performance.md and its plot are new
bench:
    benches/run

# Whole orders beside peers; `just bench-peers --contender tidegate,sqlite --in-flight 64 --seconds 2`
bench-peers *arguments:
    benches/run orders {{arguments}}

# Every benchmark in seconds: no figure counts, every check does
bench-quick *arguments:
    benches/run quick {{arguments}}

[private]
release:
    cargo build --release
# Many clients at once, and whether one thing after the other explains what they were answered
histories *arguments:
    cargo run --release -p tidegate-reliability -- histories {{arguments}}

# Every order of events in what is synchronised by hand
loom:
    RUSTFLAGS=--cfg=tidegate_loom cargo test -p tidegate-storage -p tidegate-actors --lib loom

# Breaks the code on purpose, in a copy, and shows that a test notices; an hour at first
mutations *names:
    tests/reliability/mutations/run {{names}}

# All that CI runs, in the same order
ci:
    .ci/run

# Lists the fuzz targets, or fuzzes one: `just fuzz frame --seconds 60`
fuzz target='' *options:
    tests/fuzz/run {{target}} {{options}}

# Fuzzes every target for so many seconds each
fuzz-all seconds='600':
    for target in $(tests/fuzz/run); do tests/fuzz/run "$target" --seconds {{seconds}} || exit 1; done

# Damages copies of a store; `just bad-bytes --every-bit` takes an hour
bad-bytes *options:
    cargo run --release -p tidegate-reliability -- bad-bytes {{options}}
