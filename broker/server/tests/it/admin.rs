//! The admin port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use lanecast_broker::{Broker, BrokerConfig};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// One request on a connection of its own: the status and the body.
pub(crate) fn request(addr: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

pub(crate) fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    request(addr, "GET", path)
}

fn started() -> (tempfile::TempDir, Broker) {
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig { shards: Some(2), ..BrokerConfig::new(dir.path()) };
    let broker = Broker::start(config).unwrap();
    assert!(broker.wait_until_ready(PATIENCE));
    (dir, broker)
}

#[test]
fn probes_statistics_and_metrics_are_served_and_nothing_else() {
    let (_dir, broker) = started();
    let admin = broker.admin_addr();
    for path in ["/healthz", "/livez", "/health", "/ready", "/readyz"] {
        assert_eq!(get(admin, path), (200, "{\"status\":\"ok\"}".to_owned()), "{path}");
    }
    let (status, body) = get(admin, "/stats");
    assert_eq!(status, 200);
    let stats: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(stats["ready"], true);
    assert_eq!(stats["shards"].as_array().unwrap().len(), 2);
    assert_eq!(stats["shards"][1]["shard"], 1);
    assert!(stats["uptime_seconds"].as_f64().unwrap() > 0.0);

    let (status, body) = get(admin, "/metrics");
    assert_eq!(status, 200);
    assert!(body.contains("lanecast_broker_ready 1\n"), "{body}");
    let (status, body) = get(admin, "/metrics/buffer");
    assert_eq!((status, body.as_str()), (200, "{\"buffer_utilization\":0.0}"));

    for path in ["/", "/nothing", "/stats/", "/stats/no-such-topic", "/metrics/x", "//healthz"] {
        assert_eq!(get(admin, path).0, 404, "{path}");
    }
    for method in ["POST", "DELETE", "PUT"] {
        assert_eq!(request(admin, method, "/stats").0, 405, "{method}");
    }
    assert_eq!(request(admin, "HEAD", "/healthz"), (200, String::new()));
}

#[test]
fn snapshots_show_the_connections_of_all_shards() {
    let (_dir, broker) = started();
    let clients: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(broker.addr()).unwrap()).collect();
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let (_, body) = get(broker.admin_addr(), "/stats");
        let stats: Value = serde_json::from_str(&body).unwrap();
        let accepted: u64 = stats["shards"]
            .as_array()
            .unwrap()
            .iter()
            .map(|shard| shard["connections_accepted"].as_u64().unwrap())
            .sum();
        if accepted == 20 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{body}");
    }
    drop(clients);
}

#[test]
fn a_draining_broker_is_alive_and_not_ready() {
    let (_dir, broker) = started();
    // A connection that keeps the drain from ending at once.
    let mut client = TcpStream::connect(broker.addr()).unwrap();
    broker.drain();
    let mut rest = Vec::new();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(get(broker.admin_addr(), "/healthz").0, 200);
    let (status, body) = get(broker.admin_addr(), "/readyz");
    assert_eq!(status, 503);
    assert!(body.contains("drains"), "{body}");
}

#[test]
fn probes_are_answered_whoever_does_not_read_what_it_asked_for() {
    let (_dir, broker) = started();
    let requests = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2_000);
    let deaf = || {
        let mut socket = TcpStream::connect(broker.admin_addr()).unwrap();
        // As much as it takes: the broker stops to read when it cannot write.
        socket.set_nonblocking(true).unwrap();
        let _some = socket.write(requests.as_bytes()).unwrap();
        socket
    };
    let peers: Vec<TcpStream> = (0..100).map(|_| deaf()).collect();
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(broker.admin_addr(), path).0, 200, "{path}");
    }
    drop(peers);
}
