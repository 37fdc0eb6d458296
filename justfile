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

# Kills a process that sells, again and again; `just kills --rounds 1000 --seed 7`
kills *arguments:
    cargo run --release -p tidegate-reliability -- kills {{arguments}}

# Fails each call that a store makes of the system, one in each run; needs strace
io-faults *arguments:
    cargo run --release -p tidegate-reliability -- io-faults {{arguments}}

# Sells for minutes, over restarts and kills, and watches memory and disk
soak *arguments:
    cargo run --release -p tidegate-reliability -- soak {{arguments}}

# Runs the four examples
examples:
    cargo run --quiet --example embedded
    cargo run --quiet --example flash_sale
    cargo run --quiet --example order_saga
    cargo run --quiet --example own_machine

# All that CI runs, in the same order
ci:
    .ci/run
