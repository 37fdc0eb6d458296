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

# Runs the four examples
examples:
    cargo run --quiet --example embedded
    cargo run --quiet --example flash_sale
    cargo run --quiet --example order_saga
    cargo run --quiet --example own_machine

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
