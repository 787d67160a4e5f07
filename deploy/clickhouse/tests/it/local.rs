//! What the local server promises beyond a ClickHouse server: its users, limits, start and end. Each
//! server here is a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clickhouse::Client;
use lanecast_clickhouse::install::{InstallConfig, ensure};
use lanecast_clickhouse::{ServeConfig, ServeError, Server};

use crate::support::{Process, encoded, http, send};

/// Counts for some hundred years.
const ENDLESS: &str = "SELECT count() FROM system.numbers WHERE NOT ignore(sipHash64(number))";

fn variable(name: &str) -> Option<String> {
    std::env::var(format!("LANECAST_TEST_{name}")).ok()
}

#[tokio::test]
#[ignore = "runs as a process of its own, for the other tests"]
async fn server_process() {
    let Some(data_dir) = variable("DATA_DIR") else { return };
    let number = |name| variable(name).map(|value| value.parse::<u64>().unwrap());
    let installed = || ensure(&InstallConfig::default(), &mut |_| {}).unwrap();
    let library = variable("LIBRARY").map_or_else(installed, PathBuf::from);
    let bind: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut config = ServeConfig::new(bind, data_dir.into(), library);
    config.password = variable("PASSWORD");
    config.readonly_password = variable("READONLY_PASSWORD");
    config.body_bytes_max = number("BODY_BYTES_MAX").unwrap_or(config.body_bytes_max);
    config.queries_max = number("QUERIES_MAX").map_or(config.queries_max, |n| n as usize);
    config.query_seconds_max = number("QUERY_SECONDS_MAX").unwrap_or(config.query_seconds_max);
    config.query_wait = number("QUERY_WAIT_MS").map_or(config.query_wait, Duration::from_millis);
    config.memory_bytes_max = number("MEMORY_BYTES_MAX").unwrap_or(config.memory_bytes_max);
    match Server::start(config).await {
        Ok(server) => {
            println!("serving {}", server.url());
            let told = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
            told.await.unwrap().unwrap();
            server.shutdown().await;
        }
        Err(error) => println!("refused: {error}"),
    }
}

fn client(process: &Process) -> Client {
    Client::default().with_url(&process.url)
}

/// Returns once a query with `part` in its text is running.
async fn until_running(client: &Client, part: &str, wanted: bool) {
    loop {
        let running: u64 = client
            .query(
                "SELECT count() FROM system.processes \
                 WHERE position(query, ?) > 0 AND position(query, 'system.processes') = 0",
            )
            .bind(part)
            .fetch_one()
            .await
            .unwrap();
        if (running > 0) == wanted {
            return;
        }
    }
}

#[tokio::test]
async fn passwords_are_asked_for_in_every_way_that_clickhouse_knows() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[("PASSWORD", "s:3"), ("READONLY_PASSWORD", "r")]);
    let url = &process.url;
    let sql = b"SELECT 1";
    for (path, head) in [
        ("/", ""),
        ("/", "X-ClickHouse-User: default\r\nX-ClickHouse-Key: wrong\r\n"),
        ("/", "X-ClickHouse-User: root\r\nX-ClickHouse-Key: s:3\r\n"),
        ("/", "Authorization: Basic ZGVmYXVsdDp3cm9uZw==\r\n"),
        ("/?user=default&password=wrong", ""),
        ("/?user=readonly&password=s:3", ""),
    ] {
        let reply = http(url, path, head, sql).await;
        assert_eq!((reply.status, reply.code()), (403, Some(516)), "{path} {head}");
        assert_eq!(reply.header("x-clickhouse-exception-code"), Some("516"));
    }
    for (path, head) in [
        ("/", "X-ClickHouse-Key: s:3\r\n"),
        ("/", "X-ClickHouse-User: default\r\nX-ClickHouse-Key: s:3\r\n"),
        ("/", "Authorization: Basic ZGVmYXVsdDpzOjM=\r\n"),
        ("/?user=default&password=s:3", ""),
        ("/?user=readonly&password=r", ""),
    ] {
        let reply = http(url, path, head, sql).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "1\n"), "{path} {head}");
    }
    assert_eq!(send(url, "GET", "/ping", "", b"").await.text(), "Ok.\n");
    let official = client(&process).with_user("default").with_password("s:3");
    assert_eq!(official.query("SELECT 1").fetch_one::<u8>().await.unwrap(), 1);
}

#[tokio::test]
async fn the_readonly_user_reads_and_does_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    let owner = client(&process);
    owner.query("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a").execute().await.unwrap();
    let head = "X-ClickHouse-User: readonly\r\n";
    let url = &process.url;
    assert_eq!(http(url, "/", head, b"SELECT count() FROM t").await.text(), "0\n");
    for (path, sql) in [
        ("/", "DROP TABLE t"),
        ("/", "INSERT INTO t VALUES (1)"),
        ("/?query=INSERT+INTO+t+FORMAT+CSV", "1\n"),
        ("/?readonly=0", "SELECT 1"),
        ("/?max_threads=3", "SELECT 1"),
        ("/", "SELECT 1 SETTINGS max_execution_time = 0"),
    ] {
        let reply = http(url, path, head, sql.as_bytes()).await;
        assert_eq!(
            (reply.status, reply.code()),
            (403, Some(164)),
            "{path} {sql}: {}",
            reply.text()
        );
    }
    let away = http(url, "/", head, b"SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a Int8')");
    assert_eq!(away.await.code(), Some(497));
    assert_eq!(http(url, "/", "", b"SELECT count() FROM t").await.text(), "0\n");
}

#[tokio::test]
async fn an_address_for_all_needs_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let bind = "0.0.0.0:0".parse().unwrap();
    let config = ServeConfig::new(bind, folder.path().into(), "/nowhere".into());
    let refused = Server::start(config).await.err();
    assert!(matches!(refused, Some(ServeError::OpenToOthers { .. })));
}

#[tokio::test]
async fn a_directory_is_served_once_and_again_after_that() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Process::start(folder.path(), &[]);
    let second = Process::start(folder.path(), &[]);
    assert!(second.url.is_empty() && second.said.contains("in use"), "{}", second.said);
    let sql = "CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a";
    client(&first).query(sql).execute().await.unwrap();
    assert!(first.stop());
    let third = Process::start(folder.path(), &[]);
    let count: u64 = client(&third).query("SELECT count() FROM t").fetch_one().await.unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn acknowledged_rows_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Process::start(folder.path(), &[]);
    let one = client(&first);
    one.query("CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a").execute().await.unwrap();
    one.query("INSERT INTO t SELECT number FROM numbers(1000)").execute().await.unwrap();
    let mut insert = one.insert_formatted_with("INSERT INTO t FORMAT CSV");
    insert.send("1\n2\n3\n".into()).await.unwrap();
    insert.end().await.unwrap();
    first.kill();
    let second = Process::start(folder.path(), &[]);
    let count: u64 = client(&second).query("SELECT count() FROM t").fetch_one().await.unwrap();
    assert_eq!(count, 1003);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_nothing_of_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[("BODY_BYTES_MAX", "1000000")]);
    let owner = client(&process);
    owner.query("CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a").execute().await.unwrap();
    let body = "12345\n".repeat(500_000);
    let path = "/?query=INSERT+INTO+t+FORMAT+CSV";
    let reply = http(&process.url, path, "", body.as_bytes()).await;
    assert_eq!((reply.status, reply.code()), (413, Some(223)), "{}", reply.text());
    let count: u64 = owner.query("SELECT count() FROM t").fetch_one().await.unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn queries_beyond_the_places_are_turned_away_and_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("QUERIES_MAX", "2"), ("QUERY_WAIT_MS", "1")];
    let process = Process::start(folder.path(), &settings);
    let watcher = client(&process);
    let url = process.url.clone();
    let busy = tokio::spawn(async move { http(&url, "/", "", ENDLESS.as_bytes()).await });
    until_running(&watcher, "sipHash64", true).await;
    let url = process.url.clone();
    // It may be the one that is turned away, and comes again then.
    let second = tokio::spawn(async move {
        loop {
            http(&url, "/", "", ENDLESS.as_bytes()).await;
        }
    });
    let refused = loop {
        let reply = http(&process.url, "/", "", b"SELECT 1").await;
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!((refused.status, refused.code()), (503, Some(202)));
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Both clients hang up, which ends their queries and frees the places.
    busy.abort();
    second.abort();
    while http(&process.url, "/", "", b"SELECT 1").await.status != 200 {}
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_query() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    let watcher = client(&process);
    for sql in [ENDLESS, "SELECT sipHash64(number) FROM system.numbers"] {
        let (url, text) = (process.url.clone(), sql.to_owned());
        let task = tokio::spawn(async move {
            // The second one streams: it is read, and left in the middle.
            let mut cursor = Client::default().with_url(url).query(&text).fetch::<u64>().unwrap();
            while cursor.next().await.is_ok() {}
        });
        until_running(&watcher, "sipHash64", true).await;
        task.abort();
        until_running(&watcher, "sipHash64", false).await;
    }
}

#[tokio::test]
async fn no_query_runs_longer_than_the_server_allows() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[("QUERY_SECONDS_MAX", "1")]);
    for path in ["/", "/?max_execution_time=0", "/?max_execution_time=99"] {
        let reply = http(&process.url, path, "", ENDLESS.as_bytes()).await;
        assert_eq!((reply.status, reply.code()), (408, Some(159)), "{path}: {}", reply.text());
    }
}

#[tokio::test]
async fn memory_is_capped() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[("MEMORY_BYTES_MAX", "800000000")]);
    let sql = "SELECT groupArray(number) FROM numbers(1000000000)";
    let reply = http(&process.url, "/", "", sql.as_bytes()).await;
    assert_eq!(reply.code(), Some(241), "{}", reply.text());
    let sql = "SELECT value FROM system.server_settings WHERE name IN \
               ('max_server_memory_usage', 'mark_cache_size') ORDER BY name";
    let caps = http(&process.url, &format!("/?query={}", encoded(sql)), "", b"").await;
    assert_eq!(caps.text(), "50000000\n800000000\n");
}

#[tokio::test]
async fn the_default_database_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    http(&process.url, "/", "", b"DROP DATABASE default").await;
    let reply = http(&process.url, "/", "", b"SELECT currentDatabase()").await;
    assert_eq!(reply.text(), "default\n");
}

#[tokio::test]
async fn a_shutdown_finishes_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), &[]);
    let sql = "SELECT count() FROM (SELECT sleepEachRow(0.1) FROM numbers(10))";
    let watcher = client(&process);
    let running = loop {
        let url = process.url.clone();
        let mut running = tokio::spawn(async move { http(&url, "/", "", sql.as_bytes()).await });
        tokio::select! {
            () = until_running(&watcher, "sleepEachRow", true) => break running,
            // On a busy machine it may be over before it was seen.
            _ = &mut running => {}
        }
    };
    process.ask_to_stop();
    let reply = running.await.unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "10\n"));
    assert!(process.stop());
}

#[test]
fn a_library_that_is_none_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libchdb.so");
    std::fs::write(&library, "not a library").unwrap();
    for library in [library.to_str().unwrap(), "/nowhere/libchdb.so"] {
        let process = Process::start(&folder.path().join("data"), &[("LIBRARY", library)]);
        let expected = format!("cannot load {library}: ");
        assert!(process.said.contains(&expected), "{}", process.said);
    }
}
