//! The whole consumer, between a broker in memory and a real ClickHouse behind a gateway.

use core::time::Duration;
use std::sync::atomic::{AtomicU32, Ordering};

use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use lanecast_clickhouse::testing::shared_server;
use lanecast_client::{Client, ClientConfig, GroupOptions, Mode, StartPosition};
use lanecast_consumer::{
    Backoff, Consumer, ConsumerConfig, PrintConfig, PrintFormat, StartError, print,
};
use lanecast_store::{Retention, Store, StoreConfig};

use crate::broker::{Broker, State, TOPIC};
use crate::gateway::{Gateway, Step};
use crate::testing::{APPEND_TIME_MS, Batch};

struct Pipeline {
    broker: Broker,
    gateway: Gateway,
    consumer: Consumer,
    store: Store,
    config: ConsumerConfig,
}

async fn pipeline(steps: &[Step]) -> Pipeline {
    pipeline_with(steps, |_| ()).await
}

async fn pipeline_with(steps: &[Step], change: impl FnOnce(&mut ConsumerConfig)) -> Pipeline {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let broker = Broker::start().await;
    let gateway = Gateway::start(Some(&shared_server().url), steps).await;
    let store_config = StoreConfig {
        url: gateway.url().to_owned(),
        database: format!("consumer_{}_{number}", std::process::id()),
        ..StoreConfig::default()
    };
    let mut config = ConsumerConfig {
        client: ClientConfig::new(&broker.addr, "test"),
        store: store_config.clone(),
        // The batches of these tests are years old.
        retention: Retention::FOREVER,
        backoff: Backoff { first: Duration::from_millis(1), max: Duration::from_millis(2) },
        admin_bind: Some(([127, 0, 0, 1], 0).into()),
        ..ConsumerConfig::default()
    };
    config.group.lease = Duration::from_millis(150);
    change(&mut config);
    let consumer = Consumer::start(config.clone()).await.unwrap();
    let store = Store::connect(store_config).unwrap();
    Pipeline { broker, gateway, consumer, store, config }
}

impl Pipeline {
    /// Rows of the raw table, and the rows that the roll-up has seen.
    async fn rows(&self) -> (u64, u64) {
        let sql = "SELECT (SELECT count() FROM telemetry), \
                   (SELECT toUInt64(sum(count)) FROM telemetry_1m)";
        let rows = self.store.client().query_raw(sql).fetch_one::<(Option<u64>, Option<u64>)>();
        let (raw, minute) = rows.await.unwrap();
        (raw.unwrap(), minute.unwrap())
    }

    /// Waits for that, while there are so many inserts and no more.
    async fn loses_a_lease(&self, inserts: usize) {
        while self.consumer.stats().snapshot().leases_lost == 0 {
            assert_eq!(self.gateway.inserts().len(), inserts);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let client = HttpClient::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
        let addr = self.consumer.admin_addr().unwrap();
        let response = client.get(format!("http://{addr}{path}").parse().unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

/// A batch of three good rows.
fn good(base_offset: u64) -> bytes::Bytes {
    Batch { base_offset, times: &[APPEND_TIME_MS; 3], ..Batch::default() }.bytes()
}

#[tokio::test]
async fn chunks_are_stored_acknowledged_and_counted() {
    let pipeline = pipeline(&[]).await;
    pipeline.broker.add_chunk(&[good(0), good(3)]);
    pipeline.broker.add_chunk(&[good(6)]);
    pipeline.broker.until(|state| state.acked.len() == 2).await;
    assert_eq!(pipeline.rows().await, (9, 9));
    let tokens: Vec<_> =
        pipeline.gateway.inserts().into_iter().map(|insert| insert.token).collect();
    assert!(tokens.contains(&"gpu-telemetry/0/0-5/1700000000000".to_owned()), "{tokens:?}");
    assert!(tokens.contains(&"gpu-telemetry/0/6-8/1700000000000".to_owned()), "{tokens:?}");

    let stats = pipeline.consumer.stats().clone();
    pipeline.consumer.drain().await;
    let snapshot = stats.snapshot();
    assert_eq!((snapshot.rows_inserted, snapshot.chunks_inserted), (9, 2));
    assert_eq!((snapshot.lag_records, snapshot.chunks_in_flight), (0, 0));
    assert_eq!((snapshot.e2e_ms.count, snapshot.insert_ms.count), (9, 2));
}

#[tokio::test]
async fn offsets_that_a_broker_without_its_log_gives_out_again_are_other_rows() {
    let pipeline = pipeline(&[]).await;
    pipeline.broker.add_chunk(&[good(0)]);
    pipeline.broker.until(|state| state.acked.len() == 1).await;
    let later = APPEND_TIME_MS + 1;
    let again = Batch { times: &[APPEND_TIME_MS; 3], append_time_ms: later, ..Batch::default() };
    pipeline.broker.add_chunk(&[again.bytes()]);
    pipeline.broker.until(|state| state.acked.len() == 2).await;
    assert_eq!(pipeline.rows().await, (6, 6));
}

#[tokio::test]
async fn a_database_that_is_gone_is_made_again_and_nothing_is_dead_lettered() {
    let pipeline = pipeline(&[]).await;
    let drop_all = format!("DROP DATABASE {} SYNC", pipeline.store.database());
    pipeline.store.client().query_raw(&drop_all).execute().await.unwrap();
    pipeline.broker.add_chunk(&[good(0)]);
    pipeline.broker.add_chunk(&[good(3)]);
    pipeline.broker.until(|state| state.acked.len() == 2).await;
    assert_eq!(pipeline.rows().await, (6, 6));
    assert!(pipeline.broker.look(|state| state.dead.is_empty()));
}

#[tokio::test]
async fn an_insert_whose_answer_was_lost_is_repeated_and_stored_once() {
    let pipeline = pipeline(&[Step::PassAndHangUp, Step::PassAndHangUp]).await;
    pipeline.broker.add_chunk(&[good(0)]);
    pipeline.broker.until(|state| state.acked.len() == 1).await;
    let inserts = pipeline.gateway.inserts();
    assert!(inserts.len() >= 3 && inserts.iter().all(|insert| *insert == inserts[0]));
    assert_eq!(pipeline.rows().await, (3, 3));
}

#[tokio::test]
async fn a_chunk_whose_lease_is_lost_during_the_insert_is_stored_once_by_its_next_holder() {
    let pipeline = pipeline(&[Step::Hold]).await;
    pipeline.broker.add_chunk(&[good(0)]);
    // The insert is slow: the lease is extended for as long as it takes.
    pipeline.broker.until(|state| state.extended.len() >= 2).await;
    pipeline.broker.take_leases();
    pipeline.broker.until(|state| state.acked.len() == 1).await;
    assert_eq!(pipeline.rows().await, (3, 3));
    let stats = pipeline.consumer.stats().clone();
    pipeline.consumer.drain().await;
    let snapshot = stats.snapshot();
    assert_eq!((snapshot.chunks_redelivered, snapshot.leases_lost), (1, 1));
    assert_eq!((snapshot.rows_inserted, snapshot.chunks_inserted), (3, 1));
}

#[tokio::test]
async fn a_chunk_that_waits_for_its_turn_keeps_its_lease() {
    let pipeline = pipeline_with(&[Step::Hold], |config| config.inserts_in_flight = 1).await;
    pipeline.broker.add_chunk(&[good(0)]);
    pipeline.broker.add_chunk(&[good(3)]);
    let often = |state: &State, first| state.extended.iter().filter(|of| **of == first).count() > 3;
    pipeline.broker.until(|state| often(state, 0) && often(state, 3)).await;
    assert_eq!(pipeline.gateway.inserts().len(), 1);
}

/// Only the lease's own end tells that the broker says nothing.
fn patient(config: &mut ConsumerConfig) {
    config.client.dead_after = Duration::from_secs(3600);
}

#[tokio::test]
async fn nothing_is_stored_before_the_broker_has_said_that_the_lease_holds() {
    let pipeline = pipeline_with(&[], patient).await;
    pipeline.broker.fall_silent_after_hand_out();
    pipeline.broker.add_chunk(&[good(0)]);
    pipeline.loses_a_lease(0).await;
}

#[tokio::test]
async fn nothing_is_stored_after_the_time_for_which_the_lease_was_known_to_hold() {
    let pipeline = pipeline_with(&[Step::Hold], patient).await;
    pipeline.broker.add_chunk(&[good(0)]);
    pipeline.gateway.saw_inserts(1).await;
    pipeline.broker.fall_silent();
    pipeline.loses_a_lease(1).await;
    assert_eq!(pipeline.consumer.stats().snapshot().chunks_in_flight, 0);
}

#[tokio::test]
async fn a_consumer_without_its_broker_is_not_ready() {
    let pipeline = pipeline(&[]).await;
    assert_eq!(pipeline.get("/readyz").await.0, 200);
    pipeline.broker.is_gone(true);
    while pipeline.get("/readyz").await.0 == 200 {}
    pipeline.broker.is_gone(false);
    while pipeline.get("/readyz").await.0 != 200 {}
    assert_eq!(pipeline.consumer.stats().snapshot().reconnects, 1);
}

/// Acknowledgements, what counts as failed attempts, and subscriptions that ended in good order.
fn how_it_left(state: &State) -> (usize, usize, u32) {
    (state.acked.len(), state.nacked.len(), state.left)
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight() {
    let pipeline = pipeline(&[Step::Exception(252); 3]).await;
    pipeline.broker.add_chunk(&[good(0)]);
    pipeline.gateway.saw_inserts(1).await;
    pipeline.consumer.drain().await;
    assert_eq!(pipeline.broker.look(how_it_left), (1, 0, 1));
}

#[tokio::test]
async fn a_drain_ends_when_the_broker_does_not_answer() {
    let pipeline = pipeline(&[]).await;
    pipeline.broker.fall_silent();
    pipeline.consumer.drain().await;
}

#[tokio::test]
async fn a_drain_hands_back_what_does_not_finish_in_time() {
    let pipeline = pipeline_with(&[Step::Hold], |config| {
        config.drain_timeout = Duration::from_millis(10);
    })
    .await;
    pipeline.broker.add_chunk(&[good(0)]);
    pipeline.gateway.saw_inserts(1).await;
    assert_eq!(pipeline.broker.look(|state| state.acked.len()), 0, "no answer, no ack");
    let stats = pipeline.consumer.stats().clone();
    pipeline.consumer.drain().await;
    assert_eq!(pipeline.broker.look(how_it_left), (0, 0, 1));
    assert_eq!(stats.snapshot().chunks_handed_back, 1);
}

/// What is terminated, with the reasons' names.
fn dead(state: &State) -> Vec<(Vec<(u64, u64)>, String)> {
    let name = |reason: &str| reason.split(':').next().unwrap().to_owned();
    state.dead.iter().map(|(ranges, reason)| (ranges.clone(), name(reason))).collect()
}

/// A batch of so many rows, each second one an hour ahead.
fn every_second(base_offset: u64, rows: u64) -> bytes::Bytes {
    let time = |row: u64| APPEND_TIME_MS + 3_600_000 * (row as i64 % 2);
    let times: Vec<i64> = (0..rows).map(time).collect();
    Batch { base_offset, times: &times, ..Batch::default() }.bytes()
}

#[tokio::test]
async fn records_that_never_fit_are_terminated_before_the_insert() {
    let pipeline = pipeline(&[Step::Hold]).await;
    let times = [APPEND_TIME_MS, APPEND_TIME_MS + 3_600_000, APPEND_TIME_MS];
    let mixed = Batch { base_offset: 3, times: &times, ..Batch::default() }.bytes();
    let foreign = Batch { base_offset: 6, schema: 99, ..Batch::default() }.bytes();
    pipeline.broker.add_chunk(&[good(0), mixed, foreign]);
    pipeline.gateway.saw_inserts(1).await;
    let expected =
        [(vec![(4, 4)], "too_new".to_owned()), (vec![(6, 6)], "invalid_batch".to_owned())];
    assert_eq!(pipeline.broker.look(dead), expected);
    assert!(pipeline.broker.look(|state| state.dead[1].1.contains("schema 99")));
    // The next attempt: the same block.
    pipeline.broker.take_leases();
    pipeline.broker.until(|state| !state.acked.is_empty()).await;
    let inserts = pipeline.gateway.inserts();
    assert!(inserts.len() == 2 && inserts[0] == inserts[1]);
    assert_eq!(pipeline.rows().await, (5, 5));
    let acked = pipeline.broker.look(|state| state.acked.clone());
    assert_eq!(acked, [((0, 5), 2)], "one acknowledgement of all that was open");
    assert_eq!(pipeline.broker.look(dead), expected, "nothing is terminated twice");

    let stats = pipeline.consumer.stats().clone();
    pipeline.consumer.drain().await;
    let snapshot = stats.snapshot();
    assert_eq!((snapshot.rows_inserted, snapshot.dead_lettered), (5, 2));
    assert_eq!(snapshot.dead_lettered_by_reason["too_new"], 1);
}

#[tokio::test]
async fn a_longer_retention_between_two_attempts_makes_no_other_block() {
    const DAY_MS: i64 = 24 * 3_600_000;
    let raw_days = 3_650;
    let mut pipeline = pipeline_with(&[Step::PassAndHangUp, Step::Hold], |config| {
        config.retention = Retention { raw_days, rollup_days: 0 };
    })
    .await;
    let too_old = APPEND_TIME_MS - i64::from(raw_days) * DAY_MS - 1;
    let times = [APPEND_TIME_MS, too_old, APPEND_TIME_MS];
    pipeline.broker.add_chunk(&[Batch { times: &times, ..Batch::default() }.bytes()]);
    // Stored, and the consumer does not know; then it dies.
    pipeline.gateway.saw_inserts(2).await;
    let config = ConsumerConfig { retention: Retention::FOREVER, ..pipeline.config.clone() };
    pipeline.consumer = Consumer::start(config).await.unwrap();
    pipeline.broker.until(|state| !state.acked.is_empty()).await;
    let inserts = pipeline.gateway.inserts();
    let same: Vec<bool> = inserts.iter().map(|insert| insert.body == inserts[0].body).collect();
    assert!(same.len() >= 3 && same.iter().all(|same| *same), "{same:?}");
    assert_eq!(pipeline.broker.look(dead), [(vec![(1, 1)], "too_old".to_owned())]);
    assert_eq!(pipeline.rows().await, (2, 2));
}

#[tokio::test]
async fn a_termination_whose_answer_is_lost_is_not_asked_again() {
    let pipeline = pipeline(&[]).await;
    pipeline.broker.lose_the_answer_to_terminate();
    pipeline.broker.add_chunk(&[every_second(0, 4)]);
    pipeline.broker.until(|state| state.dead.len() == 1).await;
    pipeline.broker.take_leases();
    pipeline.broker.until(|state| !state.acked.is_empty()).await;
    assert_eq!(pipeline.broker.look(|state| state.dead.len()), 1);
    assert_eq!(pipeline.rows().await, (2, 2));
}

#[tokio::test]
async fn a_termination_that_is_refused_for_now_is_asked_again() {
    let pipeline = pipeline(&[]).await;
    pipeline.broker.refuse_terminates(3);
    pipeline.broker.add_chunk(&[every_second(0, 4)]);
    pipeline.broker.until(|state| !state.acked.is_empty()).await;
    assert_eq!(pipeline.broker.look(dead), [(vec![(1, 1), (3, 3)], "too_new".to_owned())]);
    let snapshot = pipeline.consumer.stats().snapshot();
    assert_eq!((snapshot.errors["dead_letter"], snapshot.dead_lettered), (3, 2));
}

#[tokio::test]
async fn a_chunk_is_handed_back_after_a_termination_of_a_part() {
    let pipeline = pipeline_with(&[Step::Hold], |config| {
        config.drain_timeout = Duration::from_millis(10);
    })
    .await;
    pipeline.broker.add_chunk(&[every_second(0, 5)]);
    pipeline.gateway.saw_inserts(1).await;
    pipeline.consumer.drain().await;
    assert_eq!(pipeline.broker.look(how_it_left), (0, 0, 1));
}

#[tokio::test]
async fn more_stretches_than_a_broker_remembers_are_terminated_from_front_to_back() {
    const ROWS: u64 = 2 * 2_500;
    let pipeline = pipeline(&[]).await;
    pipeline.broker.add_chunk(&[every_second(0, ROWS)]);
    // Windows of 1,024 stretches; each but the last is acknowledged, and then the chunk.
    pipeline.broker.until(|state| state.acked.len() == 3).await;
    assert_eq!(pipeline.broker.look(|state| state.dead.len()), 3);
    assert_eq!(pipeline.rows().await, (ROWS / 2, ROWS / 2));
    let inserts = pipeline.gateway.inserts();
    assert_eq!(inserts.len(), 1);
    let stats = pipeline.consumer.stats().clone();
    pipeline.consumer.drain().await;
    assert_eq!(stats.snapshot().dead_lettered, ROWS / 2);
    assert!(pipeline.broker.look(|state| state.acked.iter().all(|(_, dead)| *dead > 0)));
}

#[tokio::test]
async fn a_chunk_that_the_store_refuses_for_good_is_dead_lettered_and_the_next_one_flows() {
    let pipeline = pipeline_with(&[Step::Exception(27); 3], |config| {
        config.inserts_in_flight = 1;
    })
    .await;
    pipeline.broker.add_chunk(&[good(0)]);
    pipeline.broker.add_chunk(&[good(3)]);
    pipeline.broker.until(|state| state.acked.len() == 1).await;
    assert_eq!(pipeline.rows().await, (3, 3));
    assert_eq!(pipeline.broker.look(dead), [(vec![(0, 2)], "store".to_owned())]);
    assert!(pipeline.broker.look(|state| state.dead[0].1.contains("27")));
    assert_eq!(pipeline.consumer.stats().snapshot().leases_lost, 0);
}

#[tokio::test]
async fn the_admin_port_tells_what_was_done_and_whether_it_can_go_on() {
    let pipeline = pipeline(&[]).await;
    pipeline.broker.add_chunk(&[good(0)]);
    pipeline.broker.until(|state| state.acked.len() == 1).await;
    for path in ["/healthz", "/livez", "/ready", "/readyz", "/health"] {
        assert_eq!(pipeline.get(path).await.0, 200, "{path}");
    }
    let (status, metrics) = pipeline.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("lanecast_consumer_chunks_received_total 1\n"), "{metrics}");
    let (_, stats) = pipeline.get("/stats").await;
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    for field in ["rows_inserted", "chunks_inserted", "dead_lettered", "rows_per_s"] {
        assert!(stats[field].is_number(), "{field}: {stats}");
    }
    assert!(stats["e2e_ms"]["p99"].as_u64().unwrap() > 0, "{stats}");
    assert_eq!(pipeline.get("/nothing").await.0, 404);
}

#[tokio::test]
async fn a_store_in_trouble_shows_as_not_ready() {
    let pipeline = pipeline(&[Step::Exception(252), Step::Hold]).await;
    pipeline.broker.add_chunk(&[good(0)]);
    pipeline.gateway.saw_inserts(2).await;
    let (status, reason) = pipeline.get("/readyz").await;
    assert_eq!((status, reason.as_str()), (503, "the store does not take inserts\n"));
    assert_eq!(pipeline.get("/livez").await.0, 200);
}

#[tokio::test]
async fn a_start_without_a_store_says_so_when_its_patience_ends() {
    let broker = Broker::start().await;
    let config = ConsumerConfig {
        client: ClientConfig::new(&broker.addr, "test"),
        store: StoreConfig { url: "http://127.0.0.1:1".into(), ..StoreConfig::default() },
        start_timeout: Duration::from_millis(1),
        ..ConsumerConfig::default()
    };
    let refused = Consumer::start(config).await.unwrap_err();
    assert!(matches!(refused, StartError::Store(_)), "{refused:?}");
}

#[tokio::test]
async fn printed_chunks_are_acknowledged_and_printing_ends_at_its_limit() {
    let broker = Broker::start().await;
    broker.add_chunk(&[good(0)]);
    broker.add_chunk(&[good(3)]);
    let client = Client::connect(ClientConfig::new(&broker.addr, "test")).await.unwrap();
    let config = PrintConfig {
        mode: Mode::Group(GroupOptions::new("printers")),
        start: StartPosition::Earliest,
        format: PrintFormat::Ndjson,
        records_max: Some(4),
        ..PrintConfig::new(TOPIC)
    };
    let mut out = Vec::new();
    let printed = print(&client, &config, &mut out, core::future::pending()).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!((printed, text.lines().count()), (4, 4));
    // The second chunk was printed in part, so it is not done.
    assert_eq!(broker.look(|state| state.acked.clone()), [((0, 2), 0)]);
}

#[tokio::test]
async fn of_a_part_of_a_batch_that_part_alone_is_printed() {
    let broker = Broker::start().await;
    broker.add_part(1, 1, &good(0));
    let client = Client::connect(ClientConfig::new(&broker.addr, "test")).await.unwrap();
    let config = PrintConfig {
        mode: Mode::Group(GroupOptions::new("printers")),
        start: StartPosition::Earliest,
        format: PrintFormat::Ndjson,
        ..PrintConfig::new(TOPIC)
    };
    let mut out = Vec::new();
    let acked = async { broker.until(|state| !state.acked.is_empty()).await };
    let printed = print(&client, &config, &mut out, acked).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!((printed, text.lines().count()), (1, 1));
    assert!(text.contains("\"offset\":1"), "{text}");
    assert_eq!(broker.look(|state| state.acked.clone()), [((1, 1), 0)]);
}
