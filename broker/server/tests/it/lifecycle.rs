//! Start, drain, kill, and who may have which directory and port.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

use lanecast_broker::{Broker, BrokerConfig, StartError};
use rustix::process::Signal;

use crate::support::BrokerProcess;

/// Longer than anything here takes; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(dir: &tempfile::TempDir) -> BrokerConfig {
    BrokerConfig { shards: Some(2), ..BrokerConfig::new(dir.path()) }
}

#[test]
fn a_second_broker_on_the_same_directory_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let first = BrokerProcess::start(&[path]);
    let complaint = BrokerProcess::start_in_vain(&[path]);
    assert!(complaint.contains(&format!("process {}", first.pid())), "{complaint}");
    assert!(first.terminate().success());
}

#[test]
fn a_killed_broker_leaves_its_directory_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    for shards in ["1", "2", "3"] {
        BrokerProcess::start(&[path, "--shards", shards]).kill();
    }
    assert!(BrokerProcess::start(&[path]).terminate().success());
}

#[test]
fn a_port_in_use_is_refused_and_not_shared() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = Broker::start(config(&dir)).unwrap();
    let taken = BrokerConfig { bind: broker.addr(), ..config(&other) };
    let error = Broker::start(taken).unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    let taken = BrokerConfig { admin_bind: broker.admin_addr(), ..config(&other) };
    let error = Broker::start(taken).unwrap_err();
    assert!(error.to_string().contains("admin"), "{error}");
    broker.drain();
    broker.join().unwrap();
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = [
        BrokerConfig { shards: Some(0), ..config(&dir) },
        BrokerConfig { shards: Some(4096), ..config(&dir) },
        BrokerConfig { segment_bytes: 1_000_001, ..config(&dir) },
        BrokerConfig { groups_segment_bytes: 4096, ..config(&dir) },
        BrokerConfig { default_credit_bytes: 0, ..config(&dir) },
    ];
    for config in wrong {
        let error = Broker::start(config).unwrap_err();
        assert!(matches!(error, StartError::Config(_)), "{error}");
    }
}

#[test]
fn a_drain_closes_idle_connections_in_good_order() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(&dir)).unwrap();
    let mut idle: Vec<TcpStream> =
        (0..50).map(|_| TcpStream::connect(broker.addr()).unwrap()).collect();
    let addr = broker.addr();
    broker.drain();
    for socket in &mut idle {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // What the broker still has to say, then the end; no reset.
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
    }
    drop(idle);
    broker.join().unwrap();
    assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_dropped_broker_drains_and_frees_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    drop(Broker::start(config(&dir)).unwrap());
    Broker::start(config(&dir)).unwrap().drain();
}

#[test]
fn signals_drain_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let broker = BrokerProcess::start(&[path, "--shards", "3"]);
    let _idle = TcpStream::connect(broker.addr).unwrap();
    assert!(broker.terminate().success());
}

#[test]
fn the_watchdog_keeps_an_idle_executor_beating() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut broker = BrokerProcess::start(&[path, "--shards", "2"]);
    // Three turns within a second, though nothing happens.
    assert_eq!(broker.alive(), "alive");
    broker.signal(Signal::TERM);
}
