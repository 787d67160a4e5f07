//! Records that ClickHouse will never take, from the producer to the dead-letter topic and back,
//! while consumers and a redrive are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use lanecast_client::{Client, ClientConfig, Message, Producer, ProducerConfig, RawProducer};
use lanecast_telemetry::{Identity, Sample, SeriesCatalog, TelemetryBuilder};
use lanecast_wire::builder::{BodyBuilder, SealedBody};
use lanecast_wire::generic::GenericBuilder;
use lanecast_wire::{ProducerEpoch, ProducerId, Sequence, batch};
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::chaos::plan::Trouble;
use crate::chaos::proxy::{Protocol, Proxy};
use crate::support::{self, Process, eventually};
use crate::topics::Site;

const TOPIC: &str = "gpu-telemetry";
const GROUP: &str = "clickhouse";
const HOUR_MS: i64 = 3_600_000;

/// Rows with times; of ten, one lies ahead and one too far back.
const ROWS: u64 = 400;
const GOOD: u64 = ROWS / 10 * 8;
/// Records of a batch that claims to be telemetry, and of one that does not.
const GARBAGE: u32 = 2;
const MESSAGES: u32 = 3;
const BAD: u64 = ROWS - GOOD + (GARBAGE + MESSAGES) as u64;

/// Of a batch each, so that there are many letters.
const BATCH_ROWS: u32 = 10;

/// After so many bytes of each connection the redrive is in a black hole: some 20 letters.
const HOLE_BYTES: u64 = 8_000;

/// Everything but the consumer, which is killed and started again.
struct Stage {
    site: Site,
    folder: tempfile::TempDir,
    clickhouse: Process,
    store: SocketAddr,
    runtime: Runtime,
    client: Client,
    consumers: u32,
}

impl Stage {
    fn new() -> Self {
        let site = Site::start();
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("clickhouse");
        let arguments =
            ["clickhouse", "serve", "--port", "0", "--data-dir", data.to_str().unwrap()];
        let mut clickhouse = Process::start(folder.path(), "clickhouse", &arguments, &[]);
        let store = clickhouse.ready().addr;
        site.run(&["topic", "create", TOPIC, "--partitions", "2", "--max-attempts", "0"]);
        let runtime = Runtime::new().unwrap();
        let client = Client::connect(ClientConfig::new(site.addr(), "test"));
        let client = runtime.block_on(client).unwrap();
        Self { site, folder, clickhouse, store, runtime, client, consumers: 0 }
    }

    fn consumer(&mut self) -> Process {
        self.consumers += 1;
        let name = format!("consumer{}", self.consumers);
        let url = format!("http://{}", self.store);
        let arguments = [
            ["consume", "clickhouse"],
            ["--broker", self.site.addr()],
            ["--clickhouse-url", &url],
            ["--topic", TOPIC],
            ["--group", GROUP],
            ["--admin-port", "0"],
            ["--linger", "50ms"],
        ]
        .concat();
        let mut consumer = Process::start(self.folder.path(), &name, &arguments, &[]);
        consumer.ready();
        consumer
    }

    /// Records in the topic, done by the group, and dead-lettered by it.
    fn figures(&self) -> (u64, u64, u64) {
        let offsets = self.runtime.block_on(self.client.offsets(TOPIC)).unwrap();
        let groups = self.runtime.block_on(self.client.groups(TOPIC, None)).unwrap();
        let groups = groups.iter().map(|one| &one.group).filter(|group| group.name == GROUP);
        let (acked, dead) = groups.fold((0, 0), |(acked, dead), group| {
            (acked + group.acked_upto, dead + group.dead_lettered_records)
        });
        (offsets.iter().map(|at| at.high_watermark).sum(), acked, dead)
    }

    /// Waits until the group is done with so many records.
    fn is_done_with(&self, records: u64) {
        eventually(|| (self.figures().1 == records).then_some(()));
    }

    /// Rows in ClickHouse, how many they are without repetition, and how many a roll-up has seen.
    fn stored(&self) -> [u64; 3] {
        let one = |what: &str, table: &str| -> u64 {
            let sql = format!("SELECT toUInt64({what}) FROM lanecast.{table}");
            support::clickhouse(self.store, &sql).unwrap().parse().unwrap()
        };
        [
            one("count()", "telemetry"),
            one("uniqExact(value)", "telemetry"),
            one("sum(count)", "telemetry_1m"),
        ]
    }

    /// The letters, as the command shows them.
    fn letters(&self) -> Vec<Value> {
        let lines = self.site.run(&["topic", "dlq", TOPIC, "--json"]);
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Good rows and bad ones, a batch that is no telemetry although it says so, and messages.
async fn publish(client: &Client) {
    let config = ProducerConfig { batch_records: BATCH_ROWS, ..ProducerConfig::default() };
    let producer = Producer::<TelemetryBuilder>::open(client, TOPIC, config).await.unwrap();
    let mut catalog = SeriesCatalog::new();
    let metric = catalog.metric("DCGM_FI_DEV_GPU_UTIL").unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    for number in 0..ROWS {
        let uuid = format!("GPU-{}", number % 8);
        let identity = Identity { uuid: &uuid, hostname: "host", ..Identity::default() };
        let series = catalog.series(&identity).unwrap();
        let off_ms = match number % 10 {
            3 => 3 * HOUR_MS,
            7 => -40 * 24 * HOUR_MS,
            _ => 0,
        };
        let ts_ms = now - ROWS as i64 + number as i64 + off_ms;
        let (catalog, value) = (&catalog, number as f64);
        let sample = Sample { catalog, series, metric, ts_ms, source_ts_ms: ts_ms, value };
        producer.push(&sample).await.unwrap();
    }
    producer.flush().await.unwrap();

    let mut raw = RawProducer::open(client, TOPIC).await.unwrap();
    let garbage = SealedBody {
        body: b"no telemetry at all".to_vec(),
        schema: batch::schema::TELEMETRY,
        record_count: GARBAGE,
        min_time_ms: now,
        max_time_ms: now,
        summary: Vec::new(),
    };
    let mut messages = GenericBuilder::empty();
    for _ in 0..MESSAGES {
        messages.push(&Message::new(b"key", b"payload")).unwrap();
    }
    for (partition, body) in [(0, garbage), (1, messages.seal())] {
        let (id, epoch) = (ProducerId(7), ProducerEpoch(0));
        raw.append(partition, batch::seal(&body, id, epoch, Sequence(0), now)).await.unwrap();
    }
}

/// Every dead record, by where it was; each is in one letter, as bad records are.
fn dead(letters: &[Value]) -> BTreeMap<(u64, u64), String> {
    let mut dead = BTreeMap::new();
    for letter in letters {
        let text = |key: &str| letter[key].as_str().unwrap_or_else(|| panic!("{key}: {letter}"));
        assert_eq!((text("topic"), text("group")), (TOPIC, GROUP));
        assert!((1..=3).contains(&letter["attempts"].as_u64().unwrap()), "{letter}");
        let reason = text("reason").split(':').next().unwrap();
        for range in letter["ranges"].as_array().unwrap() {
            for offset in range[0].as_u64().unwrap()..=range[1].as_u64().unwrap() {
                let at = (letter["topic_partition"].as_u64().unwrap(), offset);
                assert_eq!(dead.insert(at, reason.to_owned()), None, "{at:?} is there twice");
            }
        }
    }
    dead
}

fn by_reason(dead: &BTreeMap<(u64, u64), String>) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    for reason in dead.values() {
        *counts.entry(reason.as_str()).or_default() += 1;
    }
    counts
}

#[test]
fn what_clickhouse_never_takes_is_dead_lettered_once_whoever_is_killed() {
    let mut stage = Stage::new();
    let mut consumer = stage.consumer();
    // Inserts hang from now on; what is refused is terminated before them.
    stage.clickhouse.signal(Signal::STOP);
    stage.runtime.block_on(publish(&stage.client));
    let all = ROWS + u64::from(GARBAGE + MESSAGES);
    eventually(|| (stage.figures().2 > 0).then_some(()));
    consumer.child.kill().unwrap();
    // What it had sent is stored now, or not: nobody knows.
    stage.clickhouse.signal(Signal::CONT);
    let mut consumer = stage.consumer();
    // Anywhere in its work, or behind it.
    eventually(|| (stage.figures().2 > BAD / 2).then_some(()));
    consumer.child.kill().unwrap();
    let consumer = stage.consumer();
    stage.is_done_with(all);
    assert_eq!(stage.stored(), [GOOD; 3]);
    assert_eq!(stage.figures(), (all, all, BAD));
    let letters = stage.letters();
    let first = dead(&letters);
    let tenth = ROWS / 10;
    let invalid = u64::from(GARBAGE + MESSAGES);
    let expected = [("invalid_batch", invalid), ("too_new", tenth), ("too_old", tenth)];
    assert_eq!(by_reason(&first), BTreeMap::from(expected));
    let shown = stage.site.run(&["topic", "dlq", TOPIC]);
    for words in ["schema 2 is not telemetry", "older than the 30 days", "(group clickhouse, "] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    consumer.signal(Signal::TERM);
    consumer.succeeds();

    // Killed while some letters are back and the rest cannot be sent.
    let proxy = Proxy::start(stage.runtime.handle(), Protocol::Frames);
    proxy.set_server(Some(stage.site.addr().parse().unwrap()));
    for _ in 0..16 {
        proxy.order("hole", Trouble::BlackHole { bytes: HOLE_BYTES, ms: 3_600_000 });
    }
    let broker = proxy.addr.to_string();
    let mut redrive = stage.site.command(&["topic", "redrive", TOPIC, "--broker", &broker]);
    let mut redrive = redrive.spawn().unwrap();
    eventually(|| (stage.figures().0 >= all + 5).then_some(()));
    redrive.kill().unwrap();
    redrive.wait().unwrap();
    let half = stage.figures().0 - all;
    assert!((5..BAD).contains(&half), "{half} of {BAD} records were sent back");
    let done = stage.site.json(&["topic", "redrive", TOPIC]);
    assert_eq!(stage.figures().0, all + BAD, "each once: {done}, {half} before");
    let again = stage.site.json(&["topic", "redrive", TOPIC]);
    assert_eq!((&again["letters"], stage.figures().0), (&0.into(), all + BAD));

    // Still bad: they come to the dead-letter topic again, and nothing to ClickHouse.
    let _consumer = stage.consumer();
    stage.is_done_with(all + BAD);
    assert_eq!(stage.stored(), [GOOD; 3]);
    let second = dead(&stage.letters());
    assert_eq!(second.len() as u64, 2 * BAD);
    let news: BTreeMap<_, _> = second
        .iter()
        .filter(|(at, _)| !first.contains_key(at))
        .map(|(at, why)| (*at, why.clone()))
        .collect();
    assert_eq!(by_reason(&news), by_reason(&first));
    let places: BTreeSet<u64> = news.keys().map(|(partition, _)| *partition).collect();
    assert_eq!(places, BTreeSet::from([0, 1]));
}
