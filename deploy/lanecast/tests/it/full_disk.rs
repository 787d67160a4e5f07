//! A broker on a file system that is full for a while.

use std::path::{Path, PathBuf};
use std::process::Command;

use lanecast_client::{
    Client, ClientConfig, Delivery, Mode, StartPosition, Subscriber, SubscriberConfig,
};
use lanecast_wire::batch;

use crate::support::{self, Process, clean_command, eventually, get_json};

/// The file system, and what is left of it once it is called full: less than a segment.
const SIZE_MIB: usize = 112;
const SEGMENT: &str = "4MiB";
const LEFT_MIB: usize = 14;

/// A broker in a mount namespace of its own, with its data on a small tmpfs.
fn broker(folder: &Path) -> (Process, PathBuf) {
    let mount = folder.join("small");
    std::fs::create_dir(&mount).unwrap();
    let data = mount.join("data");
    let script = format!("mount -t tmpfs -o size={SIZE_MIB}m tmpfs \"$0\" && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    command.arg(&mount).arg(support::LANECAST);
    command.args(["broker", "--port", "0", "--admin-port", "0", "--shards", "1"]);
    command.args(["--segment-size", SEGMENT]).arg("--data-dir").arg(&data);
    let broker = Process::start_command(folder, "broker", command, &[]);
    // Seen from here through the process: the mount is its own.
    let inside = PathBuf::from(format!("/proc/{}/root{}", broker.child.id(), mount.display()));
    (broker, inside)
}

fn produce(addr: &str, rows: &str) -> std::process::Child {
    let arguments = ["produce", "generate", "--rows", rows, "--flat-out", "--partitions", "1"];
    let mut command = clean_command(&arguments);
    command.env("BROKER_ADDR", addr).env("LOG_LEVEL", "debug");
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command.spawn().unwrap()
}

/// Reads the one partition from its first record to its last; gives how many there are.
async fn read_all(addr: &str) -> u64 {
    let client = Client::connect(ClientConfig::new(addr, "test")).await.unwrap();
    let config = SubscriberConfig {
        start: StartPosition::Earliest,
        ..SubscriberConfig::new("gpu-telemetry", Mode::Broadcast)
    };
    let mut subscriber = Subscriber::open(&client, config).await.unwrap();
    let end = subscriber.positions()[0].high_watermark;
    let mut next = 0;
    while next < end {
        let Delivery::Batches(batches) = subscriber.next().await.unwrap() else {
            panic!("something is missing behind {next}");
        };
        for found in batch::iter(&batches.payload) {
            let (header, bytes) = found.unwrap();
            batch::check(&bytes).unwrap();
            assert_eq!(header.base_offset.0, next);
            next = header.last_offset().0 + 1;
        }
    }
    next
}

#[test]
fn producers_are_told_consumers_go_on_and_space_is_all_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut broker, inside) = broker(folder.path());
    // Fails with the words of `unshare` or `mount` where a test may not mount anything.
    let ready = broker.ready();
    let (addr, admin) = (ready.addr.to_string(), ready.admin_addr.unwrap());
    let filler = inside.join("filler");
    std::fs::write(&filler, vec![1; (SIZE_MIB - LEFT_MIB) << 20]).unwrap();

    // More than fits: about 37 bytes a row.
    let rows = 800_000;
    let mut producer = produce(&addr, &rows.to_string());
    let partition = || {
        let stats = support::try_get_json(admin, "/stats")?;
        Some(stats["topics"].get(0)?["partitions"][0].clone())
    };
    let full = eventually(|| {
        assert!(producer.try_wait().unwrap().is_none(), "it is done: the disk was not full");
        partition().filter(|one| one["detail"].as_str().unwrap().contains("free some space"))
    });
    assert_eq!(full["state"], "online", "{full}");
    let durable = full["high_watermark"].as_u64().unwrap();
    assert!(durable > 0 && durable < rows, "{full}");

    // Consumers have everything that is durable.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let read = runtime.block_on(read_all(&addr));
    assert!(read >= durable && read < rows, "{read} of {durable}");
    assert_eq!(get_json(admin, "/stats")["topics"][0]["partitions"][0]["state"], "online");

    // There is space again: production goes on by itself, and every record is there once.
    std::fs::remove_file(&filler).unwrap();
    let output = producer.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{}", broker.log());
    assert!(text.contains("no space left on the broker"), "the producer was not told: {text}");
    assert_eq!(runtime.block_on(read_all(&addr)), rows);
    broker.signal(rustix::process::Signal::TERM);
    broker.succeeds();
}
