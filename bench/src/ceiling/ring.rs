//! A ring between two cores with no work at either end: what the broker's hop between shards costs at
//! least. Descriptors go in bulk, collected in front of the ring and taken out in chunks, as shards do it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::{Error, Sample, cpu};

/// What a hop carries: where a batch lies, whose it is and what becomes of it.
type Descriptor = [u64; 4];

const SLOTS: usize = 4096;

/// Descriptors that one turn of a busy shard collects, and that a receiver takes at a time.
const BULK: usize = 256;

/// Sends from one core to another for that long. Records are descriptors.
///
/// # Errors
/// None that a run can cause.
///
/// # Panics
/// A descriptor came twice, or never.
pub fn ring(from_core: usize, to_core: usize, duration: Duration) -> Result<Sample, Error> {
    let (producer, consumer) = RingBuffer::new(SLOTS);
    let over = AtomicBool::new(false);
    let start = Instant::now();
    let received = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            cpu::stay_on(&[from_core]);
            send(producer, &over)
        });
        let receiver = scope.spawn(|| {
            cpu::stay_on(&[to_core]);
            receive(consumer)
        });
        thread::sleep(duration);
        over.store(true, Ordering::Relaxed);
        let sent = sender.join().expect("it has nothing that panics");
        let received = receiver.join().expect("it only counts");
        assert_eq!(sent, received, "a descriptor was lost");
        received
    });
    let bytes = received * size_of::<Descriptor>() as u64;
    Ok(Sample { records: received, bytes, elapsed: start.elapsed(), ..Sample::default() })
}

/// Gives how many were sent.
fn send(mut producer: Producer<Descriptor>, over: &AtomicBool) -> u64 {
    let mut waiting = VecDeque::with_capacity(BULK);
    let mut sent = 0;
    // At least once, however late this thread comes to run.
    loop {
        while waiting.len() < BULK {
            waiting.push_back([sent; 4]);
            sent += 1;
        }
        let count = waiting.len().min(producer.slots());
        let chunk = producer
            .write_chunk_uninit(count)
            .expect("the ring has as many free slots as it just said");
        chunk.fill_from_iter(waiting.drain(..count));
        if over.load(Ordering::Relaxed) {
            break;
        }
    }
    // The ring is dropped with this: what is in it still arrives.
    sent - waiting.len() as u64
}

/// Gives how many came, once the sender is gone.
fn receive(mut consumer: Consumer<Descriptor>) -> u64 {
    let mut received = 0;
    loop {
        let count = consumer.slots().min(BULK);
        if count == 0 {
            // Looked at before the ring is: nothing comes after the sender has gone.
            if consumer.is_abandoned() && consumer.is_empty() {
                return received;
            }
            std::hint::spin_loop();
            continue;
        }
        let chunk =
            consumer.read_chunk(count).expect("the ring has as many messages as it just said");
        for descriptor in chunk {
            assert_eq!(descriptor[0], received, "descriptors come in order");
            received += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_counted_once() {
        let cores = cpu::cores();
        let sample = ring(cores[0], cores[cores.len() - 1], Duration::from_millis(20)).unwrap();
        assert!(sample.records > 0);
        assert_eq!(sample.bytes, sample.records * 32);
    }
}
