//! Connections that go from one executor to another while they are used.

use lanecast_wire::message::{BrokerMessage, ClientMessage, Migrate, Produce, StartPosition};

use crate::pipeline::start;
use crate::raw::{Raw, sealed};

const SHARDS: u16 = 3;
const CONNECTIONS: u64 = 8;
const ROUNDS: u64 = 12;
const CREDIT: u32 = 4 * 1024 * 1024;

/// From a record to more than is received at once.
const BATCH_BYTES: [usize; 4] = [10, 5_000, 200_000, 900_000];

/// What a connection publishes to each partition: its own batches, in order, from wherever it is.
fn roam(addr: std::net::SocketAddr, topic: u32, producer: u64) {
    let mut raw = Raw::connect(addr, "roamer");
    let mut sequences = [0; SHARDS as usize];
    for round in 0..ROUNDS {
        let partition = ((producer + round) % u64::from(SHARDS)) as u32;
        let migrate = ClientMessage::Migrate(Migrate { topic, partition });
        let mut bytes = raw.frame(&migrate, b"");
        // Whatever comes behind the request is on its way with it.
        for to in 0..u32::from(SHARDS) {
            let size = BATCH_BYTES[((producer + round + u64::from(to)) % 4) as usize];
            let sequence = &mut sequences[to as usize];
            let produce = ClientMessage::Produce(Produce { topic, partition: to });
            bytes.extend(raw.frame(&produce, &sealed(producer, *sequence, size)));
            *sequence += 1;
        }
        std::io::Write::write_all(&mut raw.socket, &bytes).unwrap();
        assert!(matches!(raw.receive().0, BrokerMessage::Done(_)), "in round {round}");
        for _ in 0..SHARDS {
            let (message, _) = raw.receive();
            assert!(matches!(message, BrokerMessage::ProduceReply(_)), "{message:?}");
        }
    }
}

#[tokio::test]
async fn connections_roam_from_core_to_core_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir, SHARDS);
    let addr = broker.addr();
    let topic = Raw::connect(addr, "maker").create_topic("roamed", u32::from(SHARDS));
    let roamers =
        (0..CONNECTIONS).map(|producer| std::thread::spawn(move || roam(addr, topic, producer)));
    for roamer in roamers.collect::<Vec<_>>() {
        roamer.join().unwrap();
    }
    // A subscriber on another core than it was accepted on, most likely.
    let mut reader = Raw::connect(addr, "reader");
    reader.send(&ClientMessage::Migrate(Migrate { topic, partition: 1 }), b"");
    assert!(matches!(reader.receive().0, BrokerMessage::Done(_)));
    reader.subscribe(topic, StartPosition::Earliest, CREDIT);
    let mut records = 0;
    while records < CONNECTIONS * ROUNDS * u64::from(SHARDS) {
        let (message, bytes) = reader.receive();
        if let BrokerMessage::Deliver(deliver) = message {
            records += deliver.last + 1 - deliver.first;
            reader.credit(deliver.partition, bytes);
        }
    }
    assert_eq!(records, CONNECTIONS * ROUNDS * u64::from(SHARDS));
    broker.drain();
    broker.join().unwrap();
}
