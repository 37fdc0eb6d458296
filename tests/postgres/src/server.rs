//! A PostgreSQL of a test's own, on a free port of the loopback, to be killed and started again,
//! and to be followed by a replica that can take its place. Where there is none, tests that need it
//! say so and pass, unless `NEED_POSTGRES` is set. It knows no table but `sync`.

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// It refuses to run as root.
const NOBODY: u32 = 65_534;

/// How long it may take until it answers: a guard against hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether it does.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// See the module. Ended when dropped.
pub struct Database {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    server: Option<Child>,
}

/// The folder with `initdb` and `postgres`.
fn programs() -> Option<PathBuf> {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = installed.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    folders
        .into_iter()
        .find(|folder| ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file()))
}

impl Database {
    /// A new one, running; `None`, said aloud, where there is no PostgreSQL.
    ///
    /// # Panics
    /// Where there is none, with `NEED_POSTGRES` set.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// With these settings, and these files beside its data.
    pub async fn start_with(settings: &[(&str, &str)]) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os("NEED_POSTGRES").is_none(), "there is no PostgreSQL here");
            println!("skipped: there is no PostgreSQL here (apt-get install postgresql)");
            return None;
        };
        let mut database = Self::empty(programs);
        let data = database.data();
        let mut initdb = database.program("initdb");
        initdb.args(["--no-sync", "--auth=trust", "--username=tidegate", "--encoding=UTF8"]);
        done(initdb.args(["--no-locale", "--pgdata"]).arg(&data));
        let own = [
            ("listen_addresses", "127.0.0.1"),
            ("max_connections", "30"),
            ("shared_buffers", "16MB"),
            ("fsync", "off"),
            ("log_min_messages", "panic"),
            ("dynamic_shared_memory_type", "mmap"),
        ];
        database.configure(&own);
        database.configure(settings);
        database.run().await;
        Some(database)
    }

    /// A replica of this one, running: it follows by streaming, a moment later, and nobody waits
    /// for it.
    pub async fn replica(&self) -> Self {
        let mut replica = Self::empty(self.programs.clone());
        let mut copy = replica.program("pg_basebackup");
        copy.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"]);
        copy.args(["--no-sync", "--dbname", &self.url(), "--pgdata"]).arg(replica.data());
        done(&mut copy);
        // Its own port is the last in the file that it has from the other, so it counts.
        replica.configure(&[]);
        replica.run().await;
        replica
    }

    /// A folder and a port, and nothing there yet.
    fn empty(programs: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let database = Self { programs, folder, port, server: None };
        fs::create_dir(database.data()).unwrap();
        fs::set_permissions(database.data(), fs::Permissions::from_mode(0o700)).unwrap();
        if is_root() {
            chown(database.data(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        database
    }

    /// Adds `settings`, for the next start, after those of where it is.
    fn configure(&self, settings: &[(&str, &str)]) {
        let (data, port) = (self.data().display().to_string(), self.port.to_string());
        let file = self.data().join("postgresql.auto.conf");
        let mut config = fs::read_to_string(&file).unwrap_or_default();
        let place = [("port", &*port), ("unix_socket_directories", &*data)];
        for (name, value) in place.iter().chain(settings) {
            config += &format!("{name} = '{value}'\n");
        }
        fs::write(file, config).unwrap();
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir("/").env_clear().env("LC_ALL", "C");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Starts it again after [`Database::kill`] or [`Database::stop_at_once`].
    pub async fn run(&mut self) {
        let (data, begun) = (self.data(), Instant::now());
        // What a killed one leaves running still holds its memory for a moment.
        loop {
            let running = self.server.as_mut().is_some_and(|it| it.try_wait().unwrap().is_none());
            if !running {
                let mut server = self.program("postgres");
                server.arg("-D").arg(&data).stdout(Stdio::null()).stderr(Stdio::null());
                self.server = Some(server.spawn().unwrap());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            if tokio_postgres::connect(&self.url(), NoTls).await.is_ok() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not run");
        }
    }

    /// Ends it as a crash does: its first process is killed (SIGKILL), the others notice.
    pub fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Ends all of it at once, with nothing put in order (`pg_ctl stop -m immediate`).
    pub fn stop_at_once(&mut self) {
        let mut stop = self.program("pg_ctl");
        done(stop.args(["stop", "--mode=immediate", "--pgdata"]).arg(self.data()));
        self.server.take().unwrap().wait().unwrap();
    }

    /// Makes a replica a database that can be written. Returns when it is.
    pub fn promote(&self) {
        done(self.program("pg_ctl").args(["promote", "--wait", "--pgdata"]).arg(self.data()));
    }

    /// Its address for a worker.
    pub fn url(&self) -> String {
        self.url_at("127.0.0.1", "sslmode=disable")
    }

    /// The same by another name of the host, with these parameters.
    pub fn url_at(&self, host: &str, parameters: &str) -> String {
        format!("postgres://tidegate@{host}:{}/postgres?{parameters}", self.port)
    }

    /// The address of both, for whoever wants the one that can be written.
    pub fn url_or(&self, other: &Self) -> String {
        let hosts = format!("127.0.0.1:{},127.0.0.1:{}", self.port, other.port);
        format!("postgres://tidegate@{hosts}/postgres?sslmode=disable")
    }

    /// A connection for a test that reads or meddles.
    pub async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// How far the tables are.
    pub async fn position(&self) -> Option<u64> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.ok()?;
        tokio::spawn(connection);
        let row = client.query_opt("select position from tidegate.sync", &[]).await.ok()??;
        row.get::<_, Option<i64>>(0).map(i64::unsigned_abs)
    }

    /// Puts a file where the server can read it and nobody else.
    pub fn give(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        if is_root() {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.kill();
        }
    }
}

/// Runs `command` to its end, which must be good.
fn done(command: &mut Command) {
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}
