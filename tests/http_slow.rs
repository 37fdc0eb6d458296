//! Connections that are held and not used: by a head that never ends, by an answer that nobody
//! reads, by more callers than may be connected. Bodies that come slowly are in `http_bad_input`.

use std::{
    fs,
    io::{BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{
    client::{Answer, Server, eventually},
    http_events::Stream,
};

/// A connection may be free for 2 seconds.
const SHORT: &str = "[timeouts]\nidle_seconds_max = 1\nhead_read_ms_max = 1000\n";

const GET: &[u8] = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n";

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

/// How many sockets the server has.
fn sockets(server: &Server) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let targets = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn a_head_that_never_ends_holds_no_connection() {
    let (_folder, server) = start(SHORT);
    for requests in 0..3 {
        let mut stream = BufReader::new(connect(&server));
        for _ in 0..requests {
            stream.get_mut().write_all(GET).unwrap();
            Answer::read(&mut stream, false).unwrap().expect(200);
        }
        stream.get_mut().write_all(b"G").unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        // Before the first answer there is one that says so.
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{requests}: {rest}");
    }
}

#[test]
fn an_answer_that_nobody_reads_holds_no_connection() {
    let (_folder, server) = start(SHORT);
    let before = sockets(&server);
    // Far more than fits between the two.
    let many: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = connect(&server);
            stream.set_nonblocking(true).unwrap();
            // It takes as many as it has room for.
            while stream.write(GET).is_ok_and(|written| written == GET.len()) {}
            stream
        })
        .collect();
    eventually(|| sockets(&server) > before);
    eventually(|| sockets(&server) <= before);
    drop(many);
}

#[test]
fn what_is_used_lasts() {
    // A connection may be free for 6 seconds.
    let config = "[timeouts]\nidle_seconds_max = 5\nhead_read_ms_max = 1000\n\
                  [events]\nheartbeat_seconds = 1\n";
    let (_folder, server) = start(config);
    let mut events = Stream::over(connect(&server), "/v1/events", "");
    let (mut client, begun) = (BufReader::new(connect(&server)), Instant::now());
    while begun.elapsed() < Duration::from_secs(7) {
        client.get_mut().write_all(GET).unwrap();
        Answer::read(&mut client, false).unwrap().expect(200);
        std::thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..8 {
        assert!(events.next().is_some(), "the stream has ended");
    }
}

#[test]
fn callers_wait_for_a_place_and_not_for_the_system() {
    // One place, which the first keeps.
    let config = "[limits]\nconnections_max = 1\n[timeouts]\nhead_read_ms_max = 600000\n";
    let (_folder, server) = start(config);
    let waiting: Vec<_> = (0..400).map(|_| connect(&server)).collect();
    assert_eq!(waiting.len(), 400);
}
