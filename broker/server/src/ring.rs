//! The rings between shards: N x (N-1) single-producer single-consumer queues of [`rtrb`].
//!
//! A shard collects what it has to say during a turn and publishes it once per ring, as one chunk,
//! then rings the receiver's [`Doorbell`]. What a full ring does not take waits in front of it;
//! [`Links::is_congested`] then tells the shell to read no sockets, which is where all messages
//! come from in the end. Rings are always read, so two full shards cannot wait for each other.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use crossbeam_utils::CachePadded;
use lanecast_core::ShardId;
use rtrb::chunks::ChunkError;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::doorbell::Doorbell;
use crate::limits::{
    RING_BACKLOG_HIGH, RING_BACKLOG_MAX, RING_MESSAGES_PER_TURN, RING_SLOTS_MAX, RING_SLOTS_MIN,
    RING_SLOTS_TOTAL,
};

/// The bell of one shard: anybody may ring it, only its executor sleeps on it.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    doorbell: CachePadded<Doorbell>,
    /// Of the executor's one loop; set once, when it starts. glommio counts wakers in 16 bits:
    /// there is this one and no clone of it.
    waker: OnceLock<Waker>,
}

impl Bell {
    pub(crate) fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// Something was published for this shard.
    pub(crate) fn ring(&self) {
        if self.doorbell.ring() {
            self.poke();
        }
    }

    /// Wakes the loop whether it seems to sleep or not. Callers bound how often they do.
    pub(crate) fn poke(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Called by the executor's loop before its first sleep.
    pub(crate) fn listen(&self, waker: &Waker) {
        if self.waker.get().is_none() {
            self.waker.get_or_init(|| waker.clone());
        }
    }
}

/// One shard's ends of all its rings.
pub(crate) struct Links<T> {
    outbound: Vec<Outbound<T>>,
    inbound: Vec<Inbound<T>>,
    backlog: usize,
}

struct Outbound<T> {
    to: ShardId,
    producer: Producer<T>,
    waiting: VecDeque<T>,
    bell: Arc<Bell>,
}

struct Inbound<T> {
    from: ShardId,
    consumer: Consumer<T>,
}

/// Makes the rings between as many shards as there are bells.
pub(crate) fn mesh<T>(bells: &[Arc<Bell>]) -> Vec<Links<T>> {
    let shards = bells.len();
    let slots = (RING_SLOTS_TOTAL / (shards * shards)).clamp(RING_SLOTS_MIN, RING_SLOTS_MAX);
    let mut links: Vec<Links<T>> = (0..shards)
        .map(|_| Links { outbound: Vec::new(), inbound: Vec::new(), backlog: 0 })
        .collect();
    for from in 0..shards {
        for (to, bell) in bells.iter().enumerate() {
            if from == to {
                continue;
            }
            let (producer, consumer) = RingBuffer::new(slots);
            links[from].outbound.push(Outbound {
                to: ShardId(to as u16),
                producer,
                waiting: VecDeque::new(),
                bell: Arc::clone(bell),
            });
            links[to].inbound.push(Inbound { from: ShardId(from as u16), consumer });
        }
    }
    links
}

impl<T> Links<T> {
    /// Puts a message in line; it leaves with the next [`Links::publish`].
    ///
    /// # Panics
    ///
    /// When `to` is this shard itself or none, and when more messages wait than any load can
    /// cause.
    pub(crate) fn send(&mut self, to: ShardId, message: T) {
        let outbound = self
            .outbound
            .iter_mut()
            .find(|outbound| outbound.to == to)
            .expect("the core names another shard of this broker");
        outbound.waiting.push_back(message);
        self.backlog += 1;
        assert!(
            self.backlog <= RING_BACKLOG_MAX,
            "{} messages wait for other shards",
            self.backlog
        );
    }

    /// Publishes what waits, once per ring, and wakes receivers that sleep.
    pub(crate) fn publish(&mut self) {
        if self.backlog == 0 {
            return;
        }
        for outbound in &mut self.outbound {
            if outbound.waiting.is_empty() {
                continue;
            }
            // Room for all of it is asked for at first: the ring looks how far the receiver has come,
            // which the other core is writing, only where it knows of too little.
            let producer = &mut outbound.producer;
            let chunk = match producer.write_chunk_uninit(outbound.waiting.len()) {
                Ok(chunk) => chunk,
                Err(ChunkError::TooFewSlots(0)) => continue,
                Err(ChunkError::TooFewSlots(free)) => producer
                    .write_chunk_uninit(free)
                    .expect("the ring has as many free slots as it just said"),
            };
            let count = chunk.len();
            let written = chunk.fill_from_iter(outbound.waiting.drain(..count));
            debug_assert_eq!(written, count);
            self.backlog -= count;
            outbound.bell.ring();
        }
    }

    /// Takes a bounded number of messages from every ring; true if there were any.
    pub(crate) fn receive(&mut self, mut take: impl FnMut(ShardId, T)) -> bool {
        let mut any = false;
        for inbound in &mut self.inbound {
            let count = inbound.consumer.slots().min(RING_MESSAGES_PER_TURN);
            if count == 0 {
                continue;
            }
            any = true;
            let chunk = inbound
                .consumer
                .read_chunk(count)
                .expect("the ring has as many messages as it just said");
            // Faster than a loop: the iterator need not ask where the ring's end is, each time.
            chunk.into_iter().for_each(|message| take(inbound.from, message));
        }
        any
    }

    /// The second look before sleeping: does a ring hold a message?
    pub(crate) fn has_inbound(&self) -> bool {
        self.inbound.iter().any(|inbound| !inbound.consumer.is_empty())
    }

    /// Messages that wait in front of full rings.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog
    }

    /// So much waits that no new work may be taken in.
    pub(crate) fn is_congested(&self) -> bool {
        self.backlog >= RING_BACKLOG_HIGH
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Wake;
    use std::thread::{self, Thread};

    use super::*;

    struct Unpark {
        thread: Thread,
        wakes: AtomicU64,
    }

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            self.thread.unpark();
        }
    }

    const MESSAGES: u64 = 200_000;

    /// Receives `MESSAGES` from every other shard while sending as many to each; sleeps by the
    /// protocol whenever there is nothing to do. Returns without loss or hangs for good.
    fn shard(mut links: Links<u64>, bell: &Arc<Bell>) {
        let unpark = Arc::new(Unpark { thread: thread::current(), wakes: AtomicU64::new(0) });
        bell.listen(&Waker::from(Arc::clone(&unpark)));
        let peers: Vec<ShardId> = links.outbound.iter().map(|outbound| outbound.to).collect();
        let mut expected = vec![0_u64; peers.len() + 1];
        let mut sent = 0;
        loop {
            links.receive(|from, message| {
                let expected = &mut expected[usize::from(from.0)];
                assert_eq!(*expected, message, "messages of one ring come in order");
                *expected += 1;
            });
            let burst = (sent % 7) + 1;
            for _ in 0..burst {
                if sent < MESSAGES && !links.is_congested() {
                    for peer in &peers {
                        links.send(*peer, sent);
                    }
                    sent += 1;
                }
            }
            links.publish();
            let received: u64 = expected.iter().sum();
            if sent == MESSAGES && links.backlog() == 0 && received == MESSAGES * peers.len() as u64
            {
                return;
            }
            if sent < MESSAGES || links.backlog() > 0 {
                // The receiver does not ring back when it has made room: a shard whose rings are
                // full goes on by itself.
                thread::yield_now();
                continue;
            }
            bell.doorbell().raise();
            if !links.has_inbound() {
                while bell.doorbell().is_raised() {
                    thread::park();
                }
            }
            bell.doorbell().lower();
        }
    }

    #[test]
    fn every_message_arrives_once_and_in_order_under_stress() {
        let bells: Vec<Arc<Bell>> = (0..3).map(|_| Arc::new(Bell::default())).collect();
        let links = mesh::<u64>(&bells);
        thread::scope(|scope| {
            for (links, bell) in links.into_iter().zip(&bells) {
                scope.spawn(move || shard(links, bell));
            }
        });
    }

    #[test]
    fn a_full_ring_congests_and_recovers() {
        let bells: Vec<Arc<Bell>> = (0..2).map(|_| Arc::new(Bell::default())).collect();
        let mut links = mesh::<usize>(&bells);
        let mut receiver = links.pop().expect("two shards");
        let mut sender = links.pop().expect("two shards");
        let total = RING_SLOTS_MAX + RING_BACKLOG_HIGH;
        for message in 0..total {
            assert!(!sender.is_congested());
            sender.send(ShardId(1), message);
            sender.publish();
        }
        assert!(sender.is_congested());
        assert_eq!(sender.backlog(), RING_BACKLOG_HIGH);
        let mut next = 0;
        while receiver.has_inbound() {
            receiver.receive(|from, message| {
                assert_eq!((from, message), (ShardId(0), next));
                next += 1;
            });
            sender.publish();
        }
        assert_eq!(next, total);
        assert!(!sender.is_congested());
    }
}
