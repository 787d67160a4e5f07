//! A partition whose disk does not answer.

use std::fs;

use lanecast_wire::message::Durability;
use serde_json::Value;

use crate::admin::get;
use crate::pipeline::{PATIENCE, TOPIC, connect, create_topic, producer, push, start};

#[tokio::test(flavor = "multi_thread")]
async fn an_offline_partition_makes_the_broker_not_ready_until_it_has_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir, 2);
    let client = connect(broker.addr()).await;
    create_topic(&client, 2, Durability::Fsync).await;
    let first = producer(&client).await;
    push(&first, 0..100).await;
    first.flush().await.unwrap();
    drop((first, client));
    drop(broker);

    // A file where the folder of partition 1 was: its log can be neither read nor written.
    let folder = dir.path().join("topics/1/1/data");
    let aside = dir.path().join("aside");
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, b"").unwrap();

    let broker = start(&dir, 2);
    let admin = broker.admin_addr();
    let (status, body) = get(admin, "/readyz");
    assert_eq!(status, 503, "{body}");
    let said: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(said["status"], "unavailable");
    assert_eq!(said["reason"], "a partition is offline");
    assert_eq!(said["offline"].as_array().unwrap().len(), 1, "{body}");
    let offline = &said["offline"][0];
    assert_eq!((&offline["topic"], &offline["partition"]), (&TOPIC.into(), &1.into()));
    assert!(offline["detail"].as_str().unwrap().contains("topics/1/1/data"), "{body}");
    for path in ["/healthz", "/livez"] {
        assert_eq!(get(admin, path).0, 200, "a restart would not help: {path}");
    }
    let metrics = get(admin, "/metrics").1;
    let online = |partition: u32, value: u32| {
        let labels = format!("{{topic=\"{TOPIC}\",partition=\"{partition}\"}}");
        metrics.contains(&format!("lanecast_broker_partition_online{labels} {value}\n"))
    };
    assert!(online(0, 1) && online(1, 0), "{metrics}");
    assert!(metrics.contains("lanecast_broker_ready 0\n"), "{metrics}");

    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while get(admin, "/readyz").0 != 200 {
        assert!(std::time::Instant::now() < deadline, "{}", get(admin, "/readyz").1);
    }
    let client = connect(broker.addr()).await;
    let second = producer(&client).await;
    push(&second, 0..100).await;
    second.flush().await.unwrap();
}
