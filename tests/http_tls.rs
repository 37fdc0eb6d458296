//! TLS, as a client sees it that trusts one certificate and nothing else. What goes through it is
//! tested without it.

use std::{
    io::{BufReader, ErrorKind::UnexpectedEof, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};

use crate::{
    client::{Answer, Server},
    http_events::Stream,
    program,
};

fn trusting(certificate: CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[test]
fn a_certificate_makes_the_server_speak_tls() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let config = format!(
        "[tls]\ncertificate_file = {certificate:?}\nkey_file = {key:?}\n\
         [timeouts]\nidle_seconds_max = 1\nhead_read_ms_max = 1000\n"
    );
    let server = Server::start_with(&folder.path().join("data"), &config);

    let config = Arc::new(trusting(made.cert.der().clone()));
    let name: ServerName<'static> = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::clone(&config), name.clone()).unwrap();
    let socket = TcpStream::connect(server.address).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    let request = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with(r#"{"status":"ready"}"#), "{answer}");

    // HTTP/2 is not spoken, though offered: nothing would bound the streams of a connection.
    let mut offering = (*config).clone();
    offering.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut connection = ClientConnection::new(Arc::new(offering), name.clone()).unwrap();
    let mut socket = TcpStream::connect(server.address).unwrap();
    connection.complete_io(&mut socket).unwrap();
    assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));

    // A head that never ends is not waited for.
    let connection = ClientConnection::new(Arc::clone(&config), name.clone()).unwrap();
    let socket = TcpStream::connect(server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(connection, socket));
    stream.get_mut().write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut stream, false).unwrap().status, 200);
    stream.get_mut().write_all(b"G").unwrap();
    let ended = stream.read(&mut [0]).map_or_else(|error| error.kind(), |_| UnexpectedEof);
    assert_eq!(ended, UnexpectedEof);

    // A stream of events goes through it as well, to its end.
    let connection = ClientConnection::new(config, name).unwrap();
    let socket = TcpStream::connect(server.address).unwrap();
    let mut events = Stream::over(StreamOwned::new(connection, socket), "/v1/events", "");
    assert!(events.head.starts_with("HTTP/1.1 200 OK"), "{}", events.head);
    assert_eq!(events.next().map(|frame| frame.id).as_deref(), Some("0"));
    server.terminate();
    assert_eq!(events.next().map(|frame| frame.event).as_deref(), Some("error"));
    assert_eq!(events.next(), None);
    assert!(server.wait().success());

    std::fs::write(&key, "no key").unwrap();
    let file = folder.path().join("data.toml").display().to_string();
    let data = folder.path().join("data").display().to_string();
    let ran =
        program::run(["serve", "--config", &file, "--data", &data, "--listen", "127.0.0.1:0"]);
    ran.assert_failed(&["private key", "key.pem"]);
}
