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
