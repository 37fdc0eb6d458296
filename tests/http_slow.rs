//! Connections that are held and not used: by more callers than may be connected.

use std::{net::TcpStream, time::Duration};

use crate::client::Server;

/// Longer than any connection here is kept.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(config: &str) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(&folder.path().join("data"), config);
    (folder, server)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect_timeout(&server.address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn callers_wait_for_a_place_and_not_for_the_system() {
    // One place, which the first keeps.
    let config = "[limits]\nconnections_max = 1\n[timeouts]\nhead_read_ms_max = 600000\n";
    let (_folder, server) = start(config);
    let waiting: Vec<_> = (0..400).map(|_| connect(&server)).collect();
    assert_eq!(waiting.len(), 400);
}
