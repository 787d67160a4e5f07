//! Peers that do not speak the protocol, or do not speak at all.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use lanecast_wire::CorrelationId;
use lanecast_wire::frame::MAGIC;
use lanecast_wire::limits::FRAME_BYTES_MAX;
use lanecast_wire::limits::{PROTOCOL_MAX, PROTOCOL_MIN};
use lanecast_wire::message::{ClientMessage, Durability, Hello};

use crate::pipeline::{connect, create_topic, producer, push, start};

const PATIENCE: Duration = Duration::from_secs(20);

fn stranger(addr: SocketAddr, says: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // The broker may have closed by now.
    let _sent = socket.write_all(says);
    socket
}

fn hello() -> Vec<u8> {
    let hello = Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        client: "stranger".to_owned(),
    };
    ClientMessage::Hello(hello).encode(CorrelationId(1), 0).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_shut_out_and_disturb_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir, 2);
    let client = connect(broker.addr()).await;
    create_topic(&client, 2, Durability::Fsync).await;
    let producer = producer(&client).await;

    let addr = broker.addr();
    let mut flipped = hello();
    flipped[9] ^= 1;
    let mut oversized = hello();
    oversized[20..24].copy_from_slice(&(FRAME_BYTES_MAX + 1).to_le_bytes());
    let babble: Vec<Vec<u8>> = vec![
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        vec![0; 4096],
        vec![0xff; 300_000],
        flipped,
        oversized,
        [hello(), hello()].concat(),
        [hello(), b"and then this".to_vec().repeat(10)].concat(),
    ];
    let mut silent = Vec::new();
    for round in 0..20 {
        for says in &babble {
            let mut socket = stranger(addr, says);
            let mut answer = Vec::new();
            // Closed, with or without a last word; a reset is a close as well.
            let ended = socket.read_to_end(&mut answer);
            assert!(!ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "kept");
        }
        // Half a frame, then nothing more, for as long as the test lasts.
        let hello = hello();
        silent.push(stranger(addr, &hello[..1 + round % (hello.len() - 1)]));
        silent.push(stranger(addr, b""));
        let from = round as u64 * 1000;
        push(&producer, from..from + 1000).await;
    }
    producer.flush().await.unwrap();
    assert_eq!(producer.stats().acknowledged, 20_000);
    assert_eq!(producer.stats().reconnects, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_clients_cost_the_others_nothing_and_a_drain_dismisses_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir, 3);
    let addr = broker.addr();
    let mut idle: Vec<TcpStream> = (0..1000).map(|_| stranger(addr, &hello())).collect();
    let mut welcome = [0; 32];
    for socket in &mut idle {
        socket.read_exact(&mut welcome).unwrap();
        assert_eq!(welcome[..4], MAGIC);
    }
    let client = connect(addr).await;
    create_topic(&client, 3, Durability::Fsync).await;
    let producer = producer(&client).await;
    push(&producer, 0..5000).await;
    producer.flush().await.unwrap();
    drop((producer, client));
    broker.drain();
    for socket in &mut idle {
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
    }
    drop(idle);
    broker.join().unwrap();
}
