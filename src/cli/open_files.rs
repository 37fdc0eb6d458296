//! How many files and connections `tidegate serve` may have open: as many as the system lets it,
//! and never so many connections that the store can't open its next file, which would end its
//! writing for good. It opens and closes nothing.

/// Kept for the store, databases and endpoints; half of the limit if that is less.
const RESERVE: u64 = 1_000;

/// A connection, and what watches it.
const FILES_PER_CONNECTION: usize = 2;

/// Raises the limit of open files as far as this process may, and lowers `connections_max` if even
/// that is too low. Each of up to `streams_max` streams of events reads from a file of its own.
pub(super) fn make_room(connections_max: &mut usize, streams_max: usize) {
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    let limit = match raised.or_else(|_| rlimit::Resource::NOFILE.get_soft()) {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "how many files may be open is not known");
            return;
        }
    };
    let fitting = fitting(limit, streams_max);
    if *connections_max > fitting {
        tracing::warn!(
            limit,
            "only {fitting} connections are taken at a time, not limits.connections_max = \
             {connections_max}, since the system lets this process open {limit} files; raise that \
             (`ulimit -n`, LimitNOFILE= of systemd) or lower limits.connections_max"
        );
        *connections_max = fitting;
    }
}

/// Connections that leave room for the rest.
fn fitting(limit: u64, streams_max: usize) -> usize {
    let room = usize::try_from(limit - RESERVE.min(limit / 2)).unwrap_or(usize::MAX);
    // A stream is a connection too, so there are never more of them.
    let with_all_streams = room.saturating_sub(streams_max) / FILES_PER_CONNECTION;
    with_all_streams.max(room / (FILES_PER_CONNECTION + 1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_streams_fit_beside_the_store() {
        for (limit, streams, connections) in [
            (0, 0, 1),
            (1_024, 1_000, 170),
            (1_024, 100, 206),
            (42_000, 1_000, 20_000),
            (42_000, 100_000, 13_666),
            (u64::MAX, 1_000, (usize::MAX - 2_000) / 2),
        ] {
            assert_eq!(fitting(limit, streams), connections, "{limit} files, {streams} streams");
            let taken = FILES_PER_CONNECTION * connections + streams.min(connections);
            assert!(limit == 0 || taken as u64 <= limit - RESERVE.min(limit / 2), "{limit}");
        }
    }
}
