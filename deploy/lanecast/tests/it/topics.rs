//! `lanecast topic` and `lanecast group` against a real broker, as a user types them.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use lanecast_client::{
    Client, ClientConfig, Delivery, GroupOptions, Mode, StartPosition, Subscriber, SubscriberConfig,
};

use crate::support::{Process, clean_command, get_json};

/// A broker, and what the commands need to find it.
pub(crate) struct Site {
    _folder: tempfile::TempDir,
    broker: Process,
    addr: String,
    admin: SocketAddr,
}

impl Site {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let ports = ["--port", "0", "--admin-port", "0", "--shards", "2"];
        let arguments =
            [&["broker", "--data-dir", data.to_str().unwrap()], ports.as_slice(), more].concat();
        let mut broker = Process::start(folder.path(), "broker", &arguments, &[]);
        let ready = broker.ready();
        let (addr, admin) = (ready.addr.to_string(), ready.admin_addr.unwrap());
        Self { _folder: folder, broker, addr, admin }
    }

    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = clean_command(arguments);
        command.env("BROKER_ADDR", &self.addr);
        command.env("LANECAST_BROKER_ADMIN", self.admin.to_string());
        command.stdin(std::process::Stdio::null());
        command
    }

    /// What a command prints; it has to succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}\n{}", self.broker.log());
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.run(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// What a command that has to fail says about it.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?} succeeds");
        String::from_utf8(output.stderr).unwrap()
    }

    /// A fleet of 2 hosts with 8 GPUs and 10 metrics each, several times.
    pub(crate) fn produce(&self, rows: &str) {
        let fleet = ["--hosts", "2", "--missing-gpus", "0", "--rows", rows, "--flat-out"];
        self.run(&[&["produce", "generate", "--partitions", "2"], fleet.as_slice()].concat());
    }
}

fn objects(lines: &str) -> Vec<serde_json::Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn distinct(records: &[serde_json::Value], key: &str) -> Vec<String> {
    let mut found: Vec<String> =
        records.iter().map(|record| record[key].as_str().unwrap().to_owned()).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn topics_are_made_and_shown() {
    let site = Site::start();
    assert!(site.run(&["topic", "list"]).contains("topic create NAME"));
    let rules = ["--record-ttl", "90m", "--max-attempts", "5", "--on-full", "drop_old"];
    let made =
        site.json(&[&["topic", "create", "events", "--partitions", "3"], &rules[..]].concat());
    assert_eq!((&made["partitions"], &made["record_ttl_ms"]), (&3.into(), &5_400_000.into()));
    assert_eq!((&made["max_attempts"], &made["on_full"]), (&5.into(), &"drop_old".into()));
    let list = site.run(&["topic", "list"]);
    let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..3], ["events", "3", "fsync"], "{list}");
    assert!(list.lines().next().unwrap().starts_with("TOPIC "), "{list}");
    let again = site.fails(&["topic", "create", "events", "--partitions", "3"]);
    assert!(again.contains("exists with other settings") && again.contains("alter"), "{again}");
}

#[test]
fn errors_say_what_to_do() {
    let site = Site::start();
    for (arguments, hints) in [
        (&["topic", "describe", "nope"][..], &["no topic \"nope\"", "topic list"][..]),
        (&["topic", "tail", "nope"], &["topic list"]),
        (&["topic", "describe"], &["which topic?"]),
        (&["topic", "tail", "nope", "--from", "yesterday"], &["flag --from", "15m"]),
        (&["topic", "alter", "nope"], &["nothing to change", "--retention"]),
        (&["topic", "alter", "nope", "--on-full", "explode"], &["block, drop_new or drop_old"]),
        (&["group", "move", "g"], &["where to?"]),
        (&["group", "list", "--topic", "nope"], &["no topic \"nope\""]),
        (&["topic", "list", "--broker", "127.0.0.1:1"], &["no broker at 127.0.0.1:1", "--broker"]),
        (&["consume", "print", "--gpu", &"x".repeat(2_000)], &["2000 bytes"]),
    ] {
        let errors = site.fails(arguments);
        for hint in hints {
            assert!(errors.contains(hint), "{arguments:?}: {errors}");
        }
    }
}

#[test]
fn tail_prints_the_last_records_and_those_of_a_key() {
    let site = Site::start();
    site.produce("1600");
    let topic = "gpu-telemetry";
    let last = site.run(&["topic", "tail", topic]);
    assert_eq!(last.lines().count(), 20, "ten of each partition: {last}");
    let all = objects(&site.run(&["topic", "tail", topic, "--from", "earliest", "--json"]));
    assert_eq!(all.len(), 1_600);
    let gpu = all[0]["uuid"].as_str().unwrap();
    let host = all[0]["hostname"].as_str().unwrap();
    let of_gpu = ["topic", "tail", topic, "--from", "earliest", "--json", "--gpu", gpu];
    let rows = objects(&site.run(&of_gpu));
    assert_eq!((rows.len(), distinct(&rows, "uuid")), (100, vec![gpu.to_owned()]));
    let of_host = ["topic", "tail", topic, "--from", "earliest", "--json", "--host", host];
    let rows = objects(&site.run(&of_host));
    assert_eq!((rows.len(), distinct(&rows, "hostname")), (800, vec![host.to_owned()]));
    let both = objects(&site.run(&[&of_gpu[..], &["--host", "nowhere", "--limit", "7"]].concat()));
    assert_eq!((both.len(), distinct(&both, "uuid")), (7, vec![gpu.to_owned()]));
    let print = ["consume", "print", "--from", "earliest", "--limit", "30", "--gpu", gpu];
    let printed = site.run(&print);
    assert!(printed.lines().count() == 30 && printed.lines().all(|l| l.contains(gpu)), "{printed}");
    assert_eq!(site.run(&["topic", "tail", topic, "--from", "earliest", "--gpu", "GPU-none"]), "");
    let beyond = site.fails(&["topic", "tail", topic, "--from", "99999"]);
    assert!(beyond.contains("no partition of gpu-telemetry has come to offset 99999"), "{beyond}");
}

#[test]
fn a_filter_leaves_batches_out_at_the_broker() {
    let site = Site::start();
    site.produce("1600");
    let stats = || get_json(site.admin, "/stats/gpu-telemetry");
    let sum = |key: &str| -> u64 {
        let stats = stats();
        stats["partitions"].as_array().unwrap().iter().map(|one| one[key].as_u64().unwrap()).sum()
    };
    assert_eq!((sum("records_out"), sum("records_filtered")), (0, 0));
    let nobody = ["topic", "tail", "gpu-telemetry", "--from", "earliest", "--host", "nowhere"];
    assert_eq!(site.run(&nobody), "");
    assert_eq!((sum("bytes_out"), sum("records_filtered")), (0, 1_600));
}

#[test]
fn tail_follows_what_is_produced() {
    let site = Site::start();
    site.run(&["topic", "create", "gpu-telemetry", "--partitions", "2", "--max-attempts", "0"]);
    let mut tail = site
        .command(&[
            "topic",
            "tail",
            "gpu-telemetry",
            "--follow",
            "--from",
            "earliest",
            "--limit",
            "50",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    site.produce("160");
    let mut text = String::new();
    tail.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(tail.wait().unwrap().success());
    assert_eq!(text.lines().count(), 50);
    assert!(text.lines().all(|line| line.contains("DCGM_FI_")), "{text}");
}

/// A member that acknowledges one chunk of each partition and leaves.
async fn join_and_leave(addr: &str) -> u64 {
    let client = Client::connect(ClientConfig::new(addr, "test")).await.unwrap();
    let options = GroupOptions {
        chunk_records: 10,
        chunk_linger: Duration::ZERO,
        chunks_in_flight: 1,
        ..GroupOptions::new("readers")
    };
    let config = SubscriberConfig {
        start: StartPosition::Earliest,
        ..SubscriberConfig::new("gpu-telemetry", Mode::Group(options))
    };
    let mut subscriber = Subscriber::open(&client, config).await.unwrap();
    let mut seen = BTreeSet::new();
    let mut acked = 0;
    while seen.len() < 2 {
        let Delivery::Chunk(chunk) = subscriber.next().await.unwrap() else { panic!("chunks") };
        if seen.insert(chunk.partition) {
            acked += chunk.records();
            chunk.ack().await.unwrap();
        }
    }
    subscriber.unsubscribe().await.unwrap();
    acked
}

#[test]
fn groups_are_shown_moved_and_forgotten() {
    let site = Site::start();
    site.produce("1600");
    let none = site.run(&["group", "list"]);
    assert!(none.contains("no consumer groups"), "{none}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let acked = runtime.block_on(join_and_leave(site.addr()));
    let list = site.json(&["group", "list"]);
    assert_eq!(
        (&list[0]["group"], &list[0]["topic"]),
        (&"readers".into(), &"gpu-telemetry".into())
    );
    assert_eq!(
        (&list[0]["lag_records"], &list[0]["members"]),
        (&(1_600 - acked).into(), &0.into())
    );
    let page = site.run(&["group", "describe", "readers"]);
    assert!(page.starts_with("readers on gpu-telemetry\n"), "{page}");
    assert_eq!(page.lines().count(), 4, "{page}");
    let topic = site.json(&["topic", "describe", "gpu-telemetry"]);
    assert_eq!(topic["groups"][0]["lag_records"], 1_600 - acked);
    assert_eq!(topic["logs"][0]["state"], "online");

    let lag = |moved: &serde_json::Value| -> u64 {
        moved.as_array().unwrap().iter().map(|one| one["lag_records"].as_u64().unwrap()).sum()
    };
    let moved = site.json(&["group", "move", "readers", "--to", "latest"]);
    assert_eq!((moved.as_array().unwrap().len(), lag(&moved)), (2, 0));
    let moved = site.json(&["group", "move", "readers", "--to", "earliest", "--partition", "0"]);
    assert_eq!(moved.as_array().unwrap().len(), 1);
    let moved = site.json(&["group", "move", "readers", "--to", "earliest"]);
    assert_eq!(lag(&moved), 1_600);
    let unknown = site.fails(&["group", "move", "nobody", "--to", "latest"]);
    assert!(unknown.contains("no consumer group \"nobody\""), "{unknown}");

    let unasked = site.fails(&["group", "delete", "readers"]);
    assert!(unasked.contains("--yes"), "{unasked}");
    site.run(&["group", "delete", "readers", "--yes"]);
    assert!(site.run(&["group", "list"]).contains("no consumer groups"));
    let gone = site.fails(&["group", "describe", "readers"]);
    assert!(gone.contains("no topic has a consumer group \"readers\""), "{gone}");
}

#[test]
fn topics_are_changed_and_deleted() {
    let site = Site::start();
    site.produce("160");
    let before = site.json(&["topic", "describe", "gpu-telemetry"]);
    let after = site.json(&[
        "topic",
        "alter",
        "gpu-telemetry",
        "--record-ttl",
        "5m",
        "--max-attempts",
        "7",
    ]);
    assert_eq!((&after["record_ttl_ms"], &after["max_attempts"]), (&300_000.into(), &7.into()));
    assert_eq!(after["retention_bytes"], before["retention_bytes"], "what is not given stays");
    let unasked = site.fails(&["topic", "delete", "gpu-telemetry"]);
    assert!(unasked.contains("160 records") && unasked.contains("--yes"), "{unasked}");
    site.run(&["topic", "delete", "gpu-telemetry", "--yes"]);
    assert!(site.run(&["topic", "list"]).contains("no topics yet"));
}

#[test]
fn a_topic_can_be_deleted_while_its_records_cannot_be_counted() {
    let site = Site::start_with(&["--max-consumers", "1"]);
    site.produce("160");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _subscriber = runtime.block_on(async {
        let client = Client::connect(ClientConfig::new(site.addr(), "test")).await.unwrap();
        let config = SubscriberConfig::new("gpu-telemetry", Mode::Broadcast);
        Subscriber::open(&client, config).await.unwrap()
    });
    let misspelt = site.fails(&["topic", "delete", "gpu-telemetri", "--yes"]);
    assert!(misspelt.contains("gpu-telemetri"), "{misspelt}");
    let unasked = site.fails(&["topic", "delete", "gpu-telemetry"]);
    assert!(unasked.contains("an unknown number") && unasked.contains("--yes"), "{unasked}");
    site.run(&["topic", "delete", "gpu-telemetry", "--yes"]);
    assert!(site.run(&["topic", "list"]).contains("no topics yet"));
}
