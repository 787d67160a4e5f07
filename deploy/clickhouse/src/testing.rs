//! A ClickHouse for tests: one server per test binary, or the one that `CLICKHOUSE_URL` names.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::install::{self, InstallConfig};
use crate::{ServeConfig, Server};

/// Begins the names of the directories that tests use.
const DIR_PREFIX: &str = "lanecast-test-clickhouse-";

/// A server that tests may use. Each test makes a database of its own.
pub struct TestServer {
    /// Such as `http://127.0.0.1:40123`.
    pub url: String,
    /// False when `CLICKHOUSE_URL` named it.
    pub local: bool,
}

/// The server of this test binary, started at the first call.
///
/// libchdb takes one data directory per process, so all tests of a binary share it. It runs on a
/// runtime of its own, since every test's runtime ends with the test, and lives until the process
/// exits. Installs the library when the cache has none.
///
/// # Panics
/// When the server cannot be started: a test cannot go on without it.
pub fn shared_server() -> &'static TestServer {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    SERVER.get_or_init(|| match std::env::var("CLICKHOUSE_URL") {
        Ok(url) if !url.is_empty() => TestServer { url, local: false },
        Ok(_) | Err(_) => TestServer { url: start(), local: true },
    })
}

fn start() -> String {
    let (started, url) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be built");
        runtime.block_on(async move {
            let library = install::ensure(&InstallConfig::default(), &mut |_| {})
                .expect("libchdb can be installed");
            let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let config = ServeConfig::new(bind, data_dir(), library);
            let server = Server::start(config).await.expect("the test server starts");
            started.send(server.url()).expect("the test waits for the address");
            // Served until the process exits.
            std::future::pending::<()>().await;
        });
    });
    url.recv().expect("the test server started")
}

/// A fresh directory. Those of test processes that are gone are removed: nothing can do that at
/// their own exit, since the engine lives until then.
fn data_dir() -> PathBuf {
    let root = std::env::temp_dir();
    for entry in root.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(DIR_PREFIX));
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            // Another test process may be removing it at the same time.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    root.join(format!("{DIR_PREFIX}{}", std::process::id()))
}
