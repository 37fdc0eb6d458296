//! A plain HTTP/1.1 client on a socket, and the server it talks to: the program itself on a free
//! port. It follows nothing and repairs nothing, so a test sees what is on the wire.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::program::tidegate;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `tidegate serve`; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Serves the store in `data` on a free port of this machine.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, "")
    }

    /// The same, with a configuration.
    pub(crate) fn start_with(data: &Path, config: &str) -> Self {
        Self::of(serve(tidegate(), data, config))
    }

    /// Runs a command made by [`serve`].
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.args(["--listen", "127.0.0.1:0"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().split("://").nth(1).and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("it says where it listens, not {line:?}"));
        Self { child, address }
    }

    /// Starts a server and kills it (SIGKILL) after `delay`, wherever it is by then.
    pub(crate) fn kill_starting(data: &Path, delay: Duration) {
        let mut command = serve(tidegate(), data, "");
        let mut child = command.args(["--listen", "127.0.0.1:0"]).spawn().unwrap();
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The same at a free address, before the store is open.
    pub(crate) fn early(mut command: Command) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = command.args(["--listen", &address.to_string()]).spawn().unwrap();
        eventually(|| TcpStream::connect(address).is_ok());
        Self { child, address }
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// A new connection.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// The memory that it has in use, as the system counts it.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// SIGKILL: no handler runs, no buffer is written.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// A signal, by its name. It has not been waited for, so its number is its own.
    pub(crate) fn signal(&self, name: &str) {
        // Every shell can; not every machine has a program for it.
        let kill = format!("kill -{name} {}", self.child.id());
        let status = std::process::Command::new("sh").args(["-c", &kill]).status();
        assert!(status.unwrap().success());
    }

    /// How it ended.
    pub(crate) fn wait(mut self) -> ExitStatus {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the server does not end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `program serve` on the store in `data`, with a configuration; not run yet.
pub(crate) fn serve(mut program: Command, data: &Path, config: &str) -> Command {
    let file = data.with_extension("toml");
    std::fs::write(&file, config).unwrap();
    program.arg("serve").arg("--data").arg(data).arg("--config").arg(&file);
    program.stdout(Stdio::piped()).stderr(Stdio::null());
    program
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it never is so");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One connection, opened again when the server has closed it.
pub(crate) struct Client {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    /// Sent with every request.
    pub(crate) headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, headers: Vec::new() }
    }

    /// With an API key.
    pub(crate) fn with_key(mut self, key: &str) -> Self {
        self.headers.push(("authorization".to_owned(), format!("Bearer {key}")));
        self
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], None)
    }

    pub(crate) fn put(&mut self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &[], Some(body.to_string().as_bytes()))
    }

    /// With an idempotency key, if it is not empty.
    pub(crate) fn post(&mut self, path: &str, key: &str, body: &Value) -> Answer {
        let keyed = [("idempotency-key", key)];
        let headers = if key.is_empty() { &[][..] } else { &keyed[..] };
        self.send("POST", path, headers, Some(body.to_string().as_bytes()))
    }

    /// Any request; a body is JSON unless the headers say otherwise.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        let bytes = self.write(method, path, headers, body);
        self.exchange(&bytes, method == "HEAD").unwrap()
    }

    /// A read, where the server may be gone.
    pub(crate) fn try_get(&mut self, path: &str) -> std::io::Result<Answer> {
        let bytes = self.write("GET", path, &[], None);
        self.exchange(&bytes, false)
    }

    /// A keyed request, where the server may be gone.
    pub(crate) fn try_post(
        &mut self,
        path: &str,
        key: &str,
        body: &Value,
    ) -> std::io::Result<Answer> {
        let body = body.to_string();
        let bytes = self.write("POST", path, &[("idempotency-key", key)], Some(body.as_bytes()));
        self.exchange(&bytes, false)
    }

    fn write(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Vec<u8> {
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(headers.iter().copied()) {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = body {
            if !headers.iter().any(|(name, _)| *name == "content-type") {
                text += "content-type: application/json\r\n";
            }
            text += &format!("content-length: {}\r\n", body.len());
        }
        text += "\r\n";
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        bytes
    }

    /// Sends bytes as they are and reads one answer.
    pub(crate) fn exchange(&mut self, bytes: &[u8], bodiless: bool) -> std::io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        // The server may answer, and close, before it has read everything.
        let written = stream.get_mut().write_all(bytes);
        let answer = Answer::read(&mut stream, bodiless);
        let answer = match (answer, written) {
            (Ok(answer), _) => answer,
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
        };
        if answer.header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

impl Answer {
    /// Reads one answer, as far as its `content-length` says.
    pub(crate) fn read(stream: &mut impl BufRead, bodiless: bool) -> std::io::Result<Self> {
        let broken = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.ok_or_else(broken)?;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(broken)?;
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Self { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |it| it.parse().unwrap());
        if !bodiless && status != 304 {
            answer.body.resize(length, 0);
            stream.read_exact(&mut answer.body)?;
        }
        Ok(answer)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("no JSON ({error}): {} {}", self.status, String::from_utf8_lossy(&self.body))
        })
    }

    /// The JSON of an answer that must have this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// That it is this problem, whole and consistent.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, slug: &str) {
        let problem = self.json();
        assert_eq!(problem["type"], format!("/problems/{slug}"), "{problem}");
        assert_eq!((self.status, &problem["status"]), (status, &status.into()), "{problem}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        assert_eq!(self.header("trace-id").map(str::len), Some(32));
    }
}
