//! A store that is down, silent, busy or broken; clients that leave.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lanecast_query::{QueryConfig, QueryServer};
use lanecast_store::StoreConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::api::{Reply, get, load_document};
use crate::fake::{Fake, Manner, Path};
use crate::world::{T0_MS, World, config, sample};

const PATHS: [&str; 4] = [
    "/api/v1/gpus",
    "/api/v1/gpus/GPU-1",
    "/api/v1/gpus/GPU-1/telemetry?window=5m",
    "/api/v1/gpus/GPU-1/telemetry?window=5m&format=arrow",
];

async fn service(store: StoreConfig, change: impl FnOnce(&mut QueryConfig)) -> QueryServer {
    let mut config = config(store);
    change(&mut config);
    let server = QueryServer::start(config).await.unwrap();
    load_document(server.addr()).await;
    server
}

fn assert_come_back(reply: &Reply) {
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
}

#[tokio::test]
async fn store_that_is_down_is_503_with_retry_after() {
    // A port that was free a moment ago, and which nobody listens on.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let store = StoreConfig { url: format!("http://{closed}"), ..StoreConfig::default() };
    let server = service(store, |_| {}).await;
    for path in PATHS {
        assert_come_back(&get(server.addr(), path).await);
    }
    assert_come_back(&get(server.addr(), "/ready").await);
    get(server.addr(), "/healthz").await.expect(200);
    let metrics = get(server.addr(), "/metrics").await.expect(200).text();
    let errors = "lanecast_query_clickhouse_errors_total{kind=\"unreachable\"} 4";
    assert!(metrics.contains(errors), "{metrics}");
}

#[tokio::test]
async fn store_that_says_nothing_is_503_and_not_a_hang() {
    let fake = Fake::start(Manner::Silent).await;
    let quick = |config: &mut QueryConfig| config.query_timeout = Duration::from_millis(50);
    let server = service(fake.store(), quick).await;
    for path in PATHS {
        assert_come_back(&get(server.addr(), path).await);
    }
    // The questions were given up, not left behind.
    fake.until_open(0).await;
}

#[tokio::test]
async fn answer_of_the_store_that_breaks_off_is_503_and_never_a_part_of_an_answer() {
    let fake = Fake::start(Manner::BreaksOff).await;
    let server = service(fake.store(), |_| {}).await;
    for path in PATHS {
        let reply = get(server.addr(), path).await;
        assert_come_back(&reply);
    }
}

#[tokio::test]
async fn refusal_of_the_store_is_sorted_and_its_text_stays_inside() {
    for (exception, status) in [
        ("Code: 202. DB::Exception: Too many simultaneous queries. (X)", 503),
        ("Code: 159. DB::Exception: Timeout exceeded. (X)", 503),
        ("Code: 60. DB::Exception: Table secret.telemetry does not exist. (X)", 503),
        ("Code: 62. DB::Exception: Syntax error near secret. (X)", 500),
    ] {
        let fake = Fake::start(Manner::Refuses(exception)).await;
        let server = service(fake.store(), |_| {}).await;
        let reply = get(server.addr(), PATHS[0]).await.expect(status);
        assert!(!reply.text().contains("secret") && !reply.text().contains("DB::"));
        assert_eq!(status == 503, reply.header("retry-after").is_some());
    }
}

#[tokio::test]
async fn more_questions_than_allowed_are_told_to_come_back() {
    let fake = Fake::start(Manner::Silent).await;
    let server = service(fake.store(), |config| {
        config.queries_in_flight_max = 2;
        config.query_turn_timeout = Duration::from_millis(20);
    })
    .await;
    let addr = server.addr();
    let held = [tokio::spawn(get(addr, PATHS[0])), tokio::spawn(get(addr, PATHS[1]))];
    fake.until_open(2).await;
    let refused = get(addr, PATHS[2]).await;
    assert_come_back(&refused);
    assert_eq!(refused.json()["type"], "urn:lanecast:problem:overloaded");
    // Those that need no store are answered all the same.
    get(addr, "/healthz").await.expect(200);
    let metrics = get(addr, "/metrics").await.text();
    assert!(metrics.contains("lanecast_query_clickhouse_requests_in_flight 2"), "{metrics}");
    assert!(metrics.contains("lanecast_query_turns_refused_total 1"), "{metrics}");
    held.iter().for_each(|request| request.abort());
}

#[tokio::test]
async fn a_page_of_a_short_window_is_one_question_and_takes_one_turn() {
    for (window, questions) in [
        ("start_time=0&end_time=900", 1),
        ("start_time=0&end_time=900.001", 2),
        ("start_time=0&end_time=900.001&count=none", 1),
        ("start_time=0&end_time=900&include=labels", 2),
        ("start_time=0", 2),
        ("end_time=900", 2),
    ] {
        let fake = Fake::start(Manner::Silent).await;
        let server = service(fake.store(), |_| {}).await;
        let addr = server.addr();
        let target = format!("/api/v1/gpus/GPU-1/telemetry?{window}");
        let asked = tokio::spawn(async move { get(addr, &target).await });
        fake.until_asked(questions).await;
        let metrics = get(addr, "/metrics").await.text();
        let turns = format!("lanecast_query_clickhouse_requests_in_flight {questions}\n");
        assert!(metrics.contains(&turns), "{window}: {metrics}");
        asked.abort();
    }
}

#[tokio::test]
async fn client_that_hangs_up_cancels_its_question() {
    let fake = Fake::start(Manner::Silent).await;
    let server = service(fake.store(), |config| {
        config.queries_in_flight_max = 1;
        config.query_timeout = Duration::from_secs(3_600);
    })
    .await;
    let mut client = TcpStream::connect(server.addr()).await.unwrap();
    client.write_all(b"GET /api/v1/gpus HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    fake.until_open(1).await;
    drop(client);
    // The store sees its connection close, and the turn is free again.
    fake.until_open(0).await;
    let next = tokio::spawn(get(server.addr(), PATHS[0]));
    fake.until_open(1).await;
    next.abort();
}

#[tokio::test]
async fn shutdown_ends_although_a_question_has_no_answer() {
    let fake = Fake::start(Manner::Silent).await;
    let quick = |config: &mut QueryConfig| config.query_timeout = Duration::from_millis(200);
    let server = service(fake.store(), quick).await;
    let addr = server.addr();
    let asked = tokio::spawn(get(addr, PATHS[0]));
    fake.until_open(1).await;
    server.shutdown().await;
    // The request in flight was answered before the service went.
    assert_come_back(&asked.await.unwrap());
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn store_that_comes_back_is_asked_again_at_once() {
    let real = lanecast_clickhouse::testing::shared_server();
    let path = Path::to(&real.url).await;
    let url = format!("http://{}", path.addr);
    let world = World::with(|config| config.store.url = url).await;
    world.insert(&[sample("GPU-1", T0_MS, "util", 1.0)]).await;
    let target = "/api/v1/gpus/GPU-1/telemetry";
    world.get(target).await.expect(200);
    path.cut().await;
    assert_come_back(&world.get(target).await);
    path.mend();
    world.get(target).await.expect(200);
    // Restarted while nobody asked: the connection kept open for the next question is dead.
    for _ in 0..20 {
        path.cut().await;
        path.mend();
        world.get(target).await.expect(200);
    }
    world.end().await;
}

/// What all tests of this binary log: a log of one thread alone misses what others were first to
/// say.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn failure_is_logged_in_full_under_the_id_that_the_client_is_told() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let fake = Fake::start(Manner::Refuses("Code: 62. DB::Exception: Syntax error. (X)")).await;
    let server = service(fake.store(), |_| {}).await;
    let reply = get(server.addr(), PATHS[0]).await.expect(500);
    let id = reply.json()["request_id"].as_str().unwrap().to_owned();
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let line = logged.lines().find(|line| line.contains(&id)).unwrap_or_else(|| panic!("{logged}"));
    assert!(line.contains("Syntax error") && line.contains(PATHS[0]), "{line}");
}
