//! Chunks into a ClickHouse that fails in every way, without a broker.

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use lanecast_client::OffsetRange;
use lanecast_consumer::{Backoff, Refused, Sink, Stats, limits};
use lanecast_store::{InsertToken, Retention, Store, StoreConfig, StoreError};

use crate::gateway::{Gateway, Step};
use crate::testing::{APPEND_TIME_MS, Batch};

const QUICK: Backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(2) };

struct Bench {
    gateway: Gateway,
    sink: Sink,
    stats: Arc<Stats>,
}

async fn bench(steps: &[Step]) -> Bench {
    let gateway = Gateway::start(None, steps).await;
    let config = StoreConfig { url: gateway.url().to_owned(), ..StoreConfig::default() };
    let store = Store::connect(config).unwrap();
    let stats = Arc::new(Stats::default());
    let sink = Sink::new(store, Retention::default(), QUICK, Arc::clone(&stats));
    Bench { gateway, sink, stats }
}

fn token() -> InsertToken {
    let topic = "gpu-telemetry".into();
    InsertToken { topic, partition: 2, first: 10, last: 12, appended_ms: APPEND_TIME_MS }
}

fn token_range() -> Vec<OffsetRange> {
    vec![OffsetRange { first: 10, last: 12 }]
}

/// What became of a chunk.
struct Outcome {
    rows: u64,
    refused: Vec<Refused>,
    stored: Result<(), StoreError>,
}

impl Bench {
    async fn put(&self, token: &InsertToken, payloads: &[Bytes]) -> Outcome {
        let open = vec![OffsetRange { first: token.first, last: token.last }];
        let sifted = self.sink.sift(token.partition, open, payloads.to_vec()).await;
        let stored = self.sink.insert(token, &sifted).await;
        Outcome { rows: sifted.rows, refused: sifted.refused, stored }
    }
}

fn good() -> Bytes {
    Batch { base_offset: 10, times: &[APPEND_TIME_MS; 3], ..Batch::default() }.bytes()
}

#[tokio::test]
async fn one_chunk_is_one_insert_with_the_settings_that_exactly_once_needs() {
    let bench = bench(&[]).await;
    let second = Batch { base_offset: 13, times: &[APPEND_TIME_MS], ..Batch::default() }.bytes();
    let payloads = [good(), second];
    let token = InsertToken { last: 13, ..token() };
    let outcome = bench.put(&token, &payloads).await;
    assert_eq!((outcome.rows, outcome.refused.len()), (4, 0));
    let [insert] = &bench.gateway.inserts()[..] else { panic!("one insert") };
    assert_eq!(insert.token, "gpu-telemetry/2/10-13/1700000000000");
    for setting in [
        "async_insert=0",
        "insert_deduplicate=1",
        "deduplicate_blocks_in_dependent_materialized_views=1",
        "database=lanecast",
    ] {
        assert!(insert.query.contains(setting), "{setting}: {}", insert.query);
    }
}

#[tokio::test]
async fn an_overloaded_store_is_tried_until_it_takes_the_chunk() {
    let bench = bench(&[
        Step::Exception(252),
        Step::Exception(241),
        Step::HangUp,
        Step::Exception(159),
        Step::Exception(516),
    ])
    .await;
    let outcome = bench.put(&token(), &[good()]).await;
    assert_eq!((outcome.rows, outcome.refused.len()), (3, 0));
    let inserts = bench.gateway.inserts();
    assert_eq!(inserts.len(), 6);
    assert!(inserts.iter().all(|insert| *insert == inserts[0]), "every attempt is the same");
    let snapshot = bench.stats.snapshot();
    assert_eq!((snapshot.insert_retries, snapshot.inserts_stalled), (5, 0));
    let errors: Vec<_> = snapshot.errors.keys().map(String::as_str).collect();
    assert_eq!(errors, ["159", "241", "252", "516", "unreachable"]);
}

#[tokio::test]
async fn fetching_waits_while_the_store_is_in_trouble() {
    let bench = bench(&[Step::Exception(252), Step::Hold]).await;
    let token = token();
    let payloads = [good()];
    {
        let put = bench.put(&token, &payloads);
        tokio::pin!(put);
        tokio::select! {
            _ = &mut put => panic!("the second attempt is never answered"),
            () = bench.gateway.saw_inserts(2) => {}
        }
        tokio::select! {
            biased;
            () = bench.sink.flowing() => panic!("an insert is stalled"),
            () = core::future::ready(()) => {}
        }
    }
    // Given up: nothing is stalled any more.
    bench.sink.flowing().await;
    assert_eq!(bench.stats.snapshot().insert_retries, 1);
}

#[tokio::test]
async fn a_permanent_refusal_that_is_repeated_is_given_back() {
    const ATTEMPTS: usize = limits::PERMANENT_ERROR_ATTEMPTS_MAX as usize;
    for code in [6, 27, 33, 53, 117, 321] {
        let bench = bench(&[Step::Exception(code); ATTEMPTS]).await;
        let outcome = bench.put(&token(), &[good()]).await;
        let why = outcome.stored.unwrap_err().to_string();
        assert!(why.contains(&code.to_string()), "{why}");
        assert_eq!(bench.gateway.inserts().len(), ATTEMPTS, "code {code}");
    }
}

#[tokio::test]
async fn one_permanent_refusal_is_no_proof() {
    // As a body that broke off on its way gives: "cannot read all data".
    let steps = [Step::Exception(33), Step::Exception(33), Step::HangUp, Step::Exception(33)];
    let bench = bench(&steps).await;
    let outcome = bench.put(&token(), &[good()]).await;
    assert_eq!((outcome.rows, outcome.refused.len()), (3, 0));
}

#[tokio::test]
async fn a_store_that_takes_nothing_for_a_reason_that_blames_no_block_is_waited_for() {
    let attempts = 3 * limits::UNKNOWN_ERROR_ATTEMPTS_MAX as usize;
    // What nobody knows, and what accuses the tables.
    for code in [7777, 16, 47, 50, 60, 62, 73, 81] {
        let bench = bench(&vec![Step::Exception(code); attempts]).await;
        let outcome = bench.put(&token(), &[good()]).await;
        outcome.stored.unwrap();
        assert_eq!((outcome.rows, outcome.refused.len()), (3, 0));
        assert_eq!(bench.gateway.inserts().len(), attempts + 1, "code {code}");
    }
}

#[tokio::test]
async fn a_chunk_that_fails_for_such_a_reason_while_others_get_through_is_refused() {
    let bench = bench(&[]).await;
    let poisoned = token();
    bench.gateway.refuse(&poisoned.to_string(), 7777);
    let payloads = [good()];
    let put = bench.put(&poisoned, &payloads);
    tokio::pin!(put);
    let others = async {
        for first in 0.. {
            bench.sink.flowing().await;
            let other = InsertToken { first: 100 + first, ..token() };
            let payloads = [good()];
            let sifted = bench.sink.sift(2, token_range(), payloads.to_vec()).await;
            bench.sink.insert(&other, &sifted).await.unwrap();
        }
    };
    tokio::select! {
        outcome = &mut put => assert!(outcome.stored.is_err()),
        () = others => {}
    }
    let attempts = bench.gateway.inserts();
    let attempts = attempts.iter().filter(|insert| insert.token == poisoned.to_string()).count();
    assert!(attempts >= limits::UNKNOWN_ERROR_ATTEMPTS_MAX as usize, "{attempts}");
}

#[tokio::test]
async fn poison_never_reaches_the_store_and_holds_nothing_up() {
    let bench = bench(&[]).await;
    let poison = Batch { base_offset: 13, ..Batch::default() }.flipped();
    let token = InsertToken { last: 13, ..token() };
    let outcome = bench.put(&token, &[good(), poison.clone()]).await;
    assert_eq!((outcome.rows, outcome.refused.len()), (3, 1));
    let token = InsertToken { first: 13, ..token };
    let outcome = bench.put(&token, &[poison]).await;
    assert_eq!((outcome.rows, outcome.refused.len()), (0, 1));
    assert_eq!(bench.gateway.inserts().len(), 1, "a chunk of poison alone is no insert");
}
