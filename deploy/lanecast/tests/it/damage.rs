//! A real log directory, harmed at every kind of byte: `log verify` names file and position, and the
//! broker serves what is left, and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lanecast_client::{
    Client, ClientConfig, Delivery, GroupOptions, MissedReason, Mode, StartPosition, Subscriber,
    SubscriberConfig,
};
use lanecast_wire::batch;
use serde_json::Value;

use crate::support::{Process, clean_command, eventually, get_json};

const TOPIC: &str = "gpu-telemetry";
/// Exit code of `log verify` for damage.
const DAMAGED: i32 = 3;

/// Base offset and bytes of every batch, and the offsets that are said to be damaged.
#[derive(Debug, Default, PartialEq, Eq)]
struct Served {
    batches: BTreeMap<u64, Vec<u8>>,
    damaged: Vec<(u64, u64)>,
}

fn broker(folder: &Path, data: &Path) -> Process {
    let data = data.to_str().unwrap();
    let arguments = ["broker", "--data-dir", data, "--port", "0", "--admin-port", "0"];
    let small = ["--shards", "1", "--segment-size", "2MiB"];
    let name = format!("broker-{}", std::fs::read_dir(folder).unwrap().count());
    Process::start(folder, &name, &[arguments.as_slice(), &small].concat(), &[])
}

fn on_tokio<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn subscribe(addr: &str, mode: Mode) -> Subscriber {
    let client = Client::connect(ClientConfig::new(addr, "test")).await.unwrap();
    let config =
        SubscriberConfig { start: StartPosition::Earliest, ..SubscriberConfig::new(TOPIC, mode) };
    Subscriber::open(&client, config).await.unwrap()
}

/// Reads the topic's one partition from its first record to its last.
async fn read_all(addr: &str) -> Served {
    let mut subscriber = subscribe(addr, Mode::Broadcast).await;
    let end = subscriber.positions()[0].high_watermark;
    let (mut served, mut next) = (Served::default(), 0);
    while next < end {
        match subscriber.next().await.unwrap() {
            Delivery::Batches(batches) => {
                for found in batch::iter(&batches.payload) {
                    let (header, bytes) = found.unwrap();
                    batch::check(&bytes).unwrap();
                    assert_eq!(header.base_offset.0, next);
                    next = header.last_offset().0 + 1;
                    served.batches.insert(header.base_offset.0, bytes.to_vec());
                }
            }
            Delivery::Missed { first, last, reason, .. } => {
                assert_eq!((first.0, reason), (next, MissedReason::Damaged));
                served.damaged.push((first.0, last.0));
                next = last.0 + 1;
            }
            other @ (Delivery::Chunk(_) | Delivery::Skipped { .. }) => panic!("{other:?}"),
        }
    }
    served
}

/// `lanecast log ...` on a directory: exit code and what it prints.
fn log(arguments: &[&str], path: &Path) -> (i32, String) {
    let mut command = clean_command(&[&["log"], arguments].concat());
    let output = command.arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or_else(|| panic!("it was killed: {errors}")), text + &errors)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A directory with a few segments of records, a group that has acked some, and the records. There are
/// enough for many blocks on a slow disk, too, which gets fewer and larger ones.
fn site(folder: &Path) -> (PathBuf, Served) {
    let data = folder.join("data");
    let mut broker = broker(folder, &data);
    let addr = broker.ready().addr.to_string();
    let rows = ["produce", "generate", "--rows", "240000", "--flat-out", "--partitions", "1"];
    let produced = clean_command(&rows).env("BROKER_ADDR", &addr).output().unwrap();
    assert!(produced.status.success(), "{produced:?}\n{}", broker.log());
    let served = on_tokio(async {
        let mut member = subscribe(&addr, Mode::Group(GroupOptions::new("readers"))).await;
        for _ in 0..3 {
            let Delivery::Chunk(chunk) = member.next().await.unwrap() else { panic!("no chunk") };
            chunk.ack().await.unwrap();
        }
        read_all(&addr).await
    });
    broker.signal(rustix::process::Signal::TERM);
    broker.succeeds();
    (data, served)
}

/// One harm: what it is called, the log that it hits, and what it does to the block's file.
type Harm = (&'static str, fn(&mut Vec<u8>, usize, usize));

/// Each gets the file, where the block begins in it, and how long its header and payload are.
const HARMS: &[Harm] = &[
    ("magic", |file, at, _| file[at] ^= 1),
    ("checksum", |file, at, _| file[at + 5] ^= 0x80),
    ("length", |file, at, _| file[at + 8] ^= 4),
    ("version", |file, at, _| file[at + 12] ^= 1),
    ("kind", |file, at, _| file[at + 13] ^= 1),
    ("reserved", |file, at, _| file[at + 14] ^= 1),
    ("base offset", |file, at, _| file[at + 16] ^= 1),
    ("count", |file, at, _| file[at + 24] ^= 1),
    ("previous", |file, at, _| file[at + 28] ^= 1),
    ("nonce", |file, at, _| file[at + 32] ^= 1),
    ("append time", |file, at, _| file[at + 40] ^= 1),
    ("record time", |file, at, _| file[at + 48] ^= 1),
    ("durable end", |file, at, _| file[at + 56] ^= 1),
    ("batch header", |file, at, _| file[at + 64 + 20] ^= 1),
    ("body", |file, at, end| file[at + end / 2] ^= 1),
    ("last byte", |file, at, end| file[at + end - 1] ^= 1),
    ("zeroed page", |file, at, _| file[at..at + 4096].fill(0)),
    ("garbage", |file, at, end| file[at..at + end].fill(0x5a)),
];

/// The blocks of a log as `log dump` has them.
fn blocks(folder: &Path, kind: &str) -> Vec<Value> {
    let (code, text) = log(&["dump", "--json"], folder);
    assert_eq!(code, 0, "{text}");
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.filter(|line: &Value| line["block"] == kind).collect()
}

fn file_of(data: &Path, block: &Value) -> PathBuf {
    let name = Path::new(block["file"].as_str().unwrap()).file_name().unwrap();
    data.join("topics/1/0/data").join(name)
}

#[test]
fn every_kind_of_damage_is_named_and_nothing_else_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (data, whole) = site(folder.path());
    let (code, text) = log(&["verify"], &data);
    assert_eq!(code, 0, "{text}");
    let blocks = blocks(&data.join("topics/1/0/data"), "batches");
    assert!(blocks.len() > 20, "{} blocks", blocks.len());
    // One block in a middle segment after the other, so that one restart shows many.
    let harmed = folder.path().join("harmed");
    copy(&data, &harmed);
    let mut expected = Vec::new();
    for ((what, harm), block) in HARMS.iter().zip(blocks[1..].iter().step_by(2).cycle()) {
        let number = |key: &str| block[key].as_u64().unwrap();
        let (position, first, count) = (number("position"), number("base_offset"), number("count"));
        let one = folder.path().join("one");
        copy(&data, &one);
        for target in [&one, &harmed] {
            let path = file_of(target, block);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = position as usize;
            let payload = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap());
            if *target == one || !expected.contains(&(first, first + count - 1)) {
                harm(&mut bytes, at, 64 + (payload as usize).min(number("bytes") as usize - 64));
                std::fs::write(&path, bytes).unwrap();
            }
        }
        let (code, text) = log(&["verify", "--json"], &one);
        assert_eq!(code, DAMAGED, "{what}: {text}");
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["damaged_records"], count, "{what}: {text}");
        let logs = report["logs"].as_array().unwrap();
        let damages = logs.iter().flat_map(|log| log["damages"].as_array().unwrap());
        let found: Vec<_> = damages.map(|damage| (&damage["file"], &damage["position"])).collect();
        let file = file_of(Path::new(""), block).display().to_string();
        assert_eq!(found, [(&Value::from(file), &Value::from(position))], "{what}: {text}");
        if !expected.contains(&(first, first + count - 1)) {
            expected.push((first, first + count - 1));
        }
        std::fs::remove_dir_all(&one).unwrap();
    }
    expected.sort_unstable();

    let mut broker = broker(folder.path(), &harmed);
    let ready = broker.ready();
    let served = on_tokio(read_all(&ready.addr.to_string()));
    assert_eq!(served.damaged, expected);
    let mut left = whole.batches;
    left.retain(|base, _| !expected.iter().any(|(first, last)| (first..=last).contains(&base)));
    assert!(served.batches == left, "other batches are served than are left");
    let stats = get_json(ready.admin_addr.unwrap(), "/stats");
    let partition = &stats["topics"][0]["partitions"][0];
    let lost: u64 = expected.iter().map(|(first, last)| last - first + 1).sum();
    assert_eq!(partition["damaged_records"], lost, "{partition}");
    assert_eq!(partition["state"], "online", "{partition}");
    let log = broker.log();
    assert_eq!(log.matches("log is damaged").count(), expected.len(), "{log}");
}

#[test]
fn lost_files_and_padding_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (data, whole) = site(folder.path());
    let blocks = blocks(&data.join("topics/1/0/data"), "batches");
    let mut names: Vec<_> = blocks.iter().map(|block| &block["file"]).collect();
    names.dedup();
    let name = names[names.len() / 2];
    let middle = blocks.iter().find(|block| block["file"] == *name).unwrap();
    let path = file_of(&data, middle);
    let in_file: Vec<&Value> = blocks.iter().filter(|b| b["file"] == middle["file"]).collect();
    let first = in_file[0]["base_offset"].as_u64().unwrap();
    let last = in_file[in_file.len() - 1];
    let last = last["base_offset"].as_u64().unwrap() + last["count"].as_u64().unwrap() - 1;
    assert!(
        first > 0 && last + 1 < *whole.batches.keys().last().unwrap(),
        "a segment between others"
    );

    // A segment of the middle is gone: its offsets are a hole, and new records go behind the end.
    std::fs::remove_file(&path).unwrap();
    let (code, text) = log(&["verify"], &data);
    assert_eq!(code, DAMAGED, "{text}");
    assert!(text.contains(&format!("offsets {first}-{last} lost")), "{text}");
    let mut broker = broker(folder.path(), &data);
    let addr = broker.ready().addr.to_string();
    let before = on_tokio(read_all(&addr));
    assert_eq!(before.damaged, [(first, last)]);
    let rows = ["produce", "generate", "--rows", "1000", "--flat-out", "--partitions", "1"];
    let produced = clean_command(&rows).env("BROKER_ADDR", &addr).output().unwrap();
    assert!(produced.status.success(), "{produced:?}");
    let after = on_tokio(read_all(&addr));
    assert_eq!(after.damaged, before.damaged);
    let end = before.batches.keys().last().unwrap();
    assert!(after.batches.range(..=end).eq(before.batches.iter()));
    assert!(after.batches.len() > before.batches.len());
    broker.signal(rustix::process::Signal::TERM);
    broker.succeeds();

    // Padding is no record.
    let block = in_file.iter().find(|b| b["file"] != middle["file"]).copied().unwrap_or(&blocks[0]);
    let path = file_of(&data, block);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = (block["position"].as_u64().unwrap() + block["bytes"].as_u64().unwrap()) as usize;
    bytes[at - 1] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (code, text) = log(&["verify"], &data);
    assert_eq!(code, DAMAGED, "{text}");
    assert!(text.contains("padding not zero, no record lost"), "{text}");
}

#[test]
fn damaged_groups_and_catalogs_close_what_cannot_be_known() {
    let folder = tempfile::tempdir().unwrap();
    let (data, whole) = site(folder.path());
    let harm = |log_folder: &str| {
        let harmed = folder.path().join(log_folder.replace('/', "-"));
        copy(&data, &harmed);
        let dump = blocks(&harmed.join(log_folder), "records");
        let name = Path::new(dump[0]["file"].as_str().unwrap()).file_name().unwrap();
        let path = harmed.join(log_folder).join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[dump[0]["position"].as_u64().unwrap() as usize + 70] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (code, text) = log(&["verify"], &harmed);
        assert_eq!(code, DAMAGED, "{text}");
        let position = dump[0]["position"].as_u64().unwrap();
        assert!(text.contains(&format!("{} position {position}", name.display())), "{text}");
        harmed
    };

    // Bounds of chunks may be lost: groups stay closed, everybody else goes on.
    let harmed = harm("topics/1/0/groups");
    let mut one = broker(folder.path(), &harmed);
    let ready = one.ready();
    let (addr, admin) = (ready.addr.to_string(), ready.admin_addr.unwrap());
    let served = on_tokio(read_all(&addr));
    assert!(served == whole, "the records are whole");
    let detail = eventually(|| {
        let stats = get_json(admin, "/stats");
        let partition = &stats["topics"][0]["partitions"][0];
        let offline = partition["state"] == "offline";
        offline.then(|| partition["detail"].as_str().unwrap().to_owned())
    });
    assert!(detail.contains("consumer groups are closed"), "{detail}");
    drop(one);

    // Topics may be lost: those that are known are served, and none is made.
    let harmed = harm("catalog");
    let mut one = broker(folder.path(), &harmed);
    let addr = one.ready().addr.to_string();
    let create = clean_command(&["topic", "create", "other"]).env("BROKER_ADDR", addr).output();
    let create = create.unwrap();
    let text = String::from_utf8_lossy(&create.stderr);
    assert!(!create.status.success() && text.contains("catalog is damaged"), "{text}");
    let log = one.log();
    assert!(log.contains("log is damaged") && log.contains("catalog/"), "{log}");
}

/// The one partition as `/stats` has it.
fn partition_of(admin: std::net::SocketAddr) -> Value {
    get_json(admin, "/stats")["topics"][0]["partitions"][0].clone()
}

fn remove(path: &Path) {
    if path.is_dir() {
        std::fs::remove_dir_all(path).unwrap();
    } else {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn newest_files_that_are_gone_are_missed_and_no_offset_comes_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (data, whole) = site(folder.path());
    let newest = blocks(&data.join("topics/1/0/data"), "batches");
    let newest = newest.iter().map(|block| block["file"].as_str().unwrap()).max().unwrap();
    let newest = Path::new("topics/1/0/data").join(Path::new(newest).file_name().unwrap());
    let next = whole.batches.keys().last().unwrap() + 1;
    for (number, gone) in [newest.as_path(), Path::new("topics/1/0/data")].iter().enumerate() {
        let harmed = folder.path().join(number.to_string());
        copy(&data, &harmed);
        remove(&harmed.join(gone));
        let (code, text) = log(&["verify"], &harmed);
        assert_eq!(code, DAMAGED, "{text}");
        let file = if gone.extension().is_some() { *gone } else { newest.as_path() };
        let place = format!("DAMAGED {} position 0: newest segments lost", file.display());
        assert!(text.contains(&place) && text.contains("nobody can count"), "{text}");

        let mut one = broker(folder.path(), &harmed);
        let (addr, admin) = {
            let ready = one.ready();
            (ready.addr.to_string(), ready.admin_addr.unwrap())
        };
        let is_online = |admin| {
            let partition = partition_of(admin);
            (partition["state"] == "online" && partition["damaged_places"] == 1).then_some(())
        };
        eventually(|| is_online(admin));
        assert!(one.log().contains("newest segments lost"), "{}", one.log());
        let rows = ["produce", "generate", "--rows", "1000", "--flat-out", "--partitions", "1"];
        let produced = clean_command(&rows).env("BROKER_ADDR", &addr).output().unwrap();
        assert!(produced.status.success(), "{produced:?}");
        let served = on_tokio(read_all(&addr));
        let [(first, last)] = served.damaged[..] else { panic!("{:?}", served.damaged) };
        assert!(last > next, "offsets go on behind all that was acknowledged: {last}");
        let is_left = |base: &u64| *base < first;
        let left: Vec<_> = whole.batches.iter().filter(|(base, _)| is_left(base)).collect();
        assert!(left.iter().all(|(base, bytes)| served.batches.get(base) == Some(bytes)));
        assert!(served.batches.keys().all(|base| is_left(base) || *base > last));
        assert_eq!(left.is_empty(), number == 1);
        one.signal(rustix::process::Signal::TERM);
        one.succeeds();
        // It stays known.
        let (code, text) = log(&["verify", "--json"], &harmed);
        assert_eq!(code, DAMAGED, "{text}");
        let mut again = broker(folder.path(), &harmed);
        let admin = again.ready().admin_addr.unwrap();
        eventually(|| is_online(admin));
    }
}

#[test]
fn catalogs_and_groups_that_are_gone_do_not_begin_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (data, whole) = site(folder.path());
    let harmed = folder.path().join("groups-gone");
    copy(&data, &harmed);
    let moved = folder.path().join("moved");
    std::fs::rename(harmed.join("topics/1/0/groups"), &moved).unwrap();
    let (code, text) = log(&["verify"], &harmed);
    assert_eq!(code, DAMAGED, "{text}");
    assert!(text.contains("topics/1/0/groups/") && text.contains("newest segments lost"), "{text}");
    let mut one = broker(folder.path(), &harmed);
    let (addr, admin) = {
        let ready = one.ready();
        (ready.addr.to_string(), ready.admin_addr.unwrap())
    };
    assert!(on_tokio(read_all(&addr)) == whole, "the records are whole");
    let offline = || Some(partition_of(admin)).filter(|one| one["state"] == "offline");
    let partition = eventually(offline);
    assert!(partition["detail"].as_str().unwrap().contains("newest segments lost"), "{partition}");
    // Put back, under a running broker: it goes on.
    remove(&harmed.join("topics/1/0/groups"));
    std::fs::rename(&moved, harmed.join("topics/1/0/groups")).unwrap();
    eventually(|| (partition_of(admin)["state"] == "online").then_some(()));
    drop(one);

    let harmed = folder.path().join("catalog-gone");
    copy(&data, &harmed);
    remove(&harmed.join("catalog"));
    let (code, text) = log(&["verify"], &harmed);
    assert_eq!(code, DAMAGED, "{text}");
    assert!(text.contains("DAMAGED catalog/"), "{text}");
    let one = broker(folder.path(), &harmed);
    eventually(|| one.log().contains("newest segments lost").then_some(()));
    drop(one);
    copy(&data.join("catalog"), &harmed.join("catalog"));
    let mut one = broker(folder.path(), &harmed);
    let addr = one.ready().addr.to_string();
    assert!(on_tokio(read_all(&addr)) == whole);
}
