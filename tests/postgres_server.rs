//! A PostgreSQL of a test's own, on a free port of the loopback, to be killed and started again.
//! Where there is none, tests that need it say so and pass, unless `NEED_POSTGRES` is set.

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::shop::eventually;

/// It refuses to run as root.
const NOBODY: u32 = 65_534;

/// See the module. Ended when dropped.
pub(crate) struct Database {
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
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// With these settings, and these files beside its data.
    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os("NEED_POSTGRES").is_none(), "there is no PostgreSQL here");
            println!("skipped: there is no PostgreSQL here (apt-get install postgresql)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut database = Self { programs, folder, port, server: None };
        let data = database.data();
        fs::create_dir(&data).unwrap();
        if is_root() {
            chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let made = database
            .program("initdb")
            .args(["--no-sync", "--auth=trust", "--username=tidegate", "--encoding=UTF8"])
            .args(["--no-locale", "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut config = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\n\
             max_connections = 30\nshared_buffers = 16MB\nfsync = off\nlog_min_messages = panic\n\
             dynamic_shared_memory_type = mmap\n",
            data.display()
        );
        for (name, value) in settings {
            config += &format!("{name} = '{value}'\n");
        }
        fs::write(data.join("postgresql.auto.conf"), config).unwrap();
        database.run().await;
        Some(database)
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

    /// Starts it again after [`Database::kill`].
    pub(crate) async fn run(&mut self) {
        let data = self.data();
        // What a killed one leaves running still holds its memory for a moment.
        eventually("PostgreSQL runs", async || {
            let running = self.server.as_mut().is_some_and(|it| it.try_wait().unwrap().is_none());
            if !running {
                let mut server = self.program("postgres");
                server.arg("-D").arg(&data).stdout(Stdio::null()).stderr(Stdio::null());
                self.server = Some(server.spawn().unwrap());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            tokio_postgres::connect(&self.url(), NoTls).await.ok().map(drop)
        })
        .await;
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Its address for a worker.
    pub(crate) fn url(&self) -> String {
        self.url_at("127.0.0.1", "sslmode=disable")
    }

    pub(crate) fn url_at(&self, host: &str, parameters: &str) -> String {
        format!("postgres://tidegate@{host}:{}/postgres?{parameters}", self.port)
    }

    /// A connection for a test that reads or meddles.
    pub(crate) async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// How far the tables are.
    pub(crate) async fn position(&self) -> Option<u64> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.ok()?;
        tokio::spawn(connection);
        let row = client.query_opt("select position from tidegate.sync", &[]).await.ok()??;
        row.get::<_, Option<i64>>(0).map(i64::unsigned_abs)
    }

    /// Puts a file where the server can read it and nobody else.
    pub(crate) fn give(path: &Path, text: &str) {
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

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}
