//! Messages from one core to another and back, both spinning.

use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use lanecast_core::ShardId;

use crate::{Descriptor, Pair};

/// The time in which `messages` go from one thread to another, published `in_bulk` at a time.
pub(crate) fn stream(messages: u64, in_bulk: usize) -> Duration {
    let Pair { mut here, mut there } = Pair::<Descriptor>::new();
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            let mut sent = 0;
            while sent < messages || here.backlog() > 0 {
                let room = (messages - sent).min(in_bulk as u64);
                let room = if here.is_congested() { 0 } else { room };
                for number in sent..sent + room {
                    here.send(ShardId(1), [number; 4]);
                }
                sent += room;
                here.publish();
            }
        });
        start.wait();
        let started = Instant::now();
        let mut received = 0;
        while received < messages {
            let any = there.receive(|_, message| {
                black_box(message);
                received += 1;
            });
            if !any {
                spin_loop();
            }
        }
        started.elapsed()
    })
}

/// The time of so many round trips of one message.
pub(crate) fn round_trips(trips: u64) -> Duration {
    let Pair { mut here, mut there } = Pair::<Descriptor>::new();
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            let mut answered = 0;
            while answered < trips {
                let mut got = None;
                there.receive(|_, message| got = Some(message));
                let Some(message) = got else {
                    spin_loop();
                    continue;
                };
                there.send(ShardId(0), message);
                there.publish();
                answered += 1;
            }
        });
        start.wait();
        let started = Instant::now();
        for trip in 0..trips {
            here.send(ShardId(1), [trip; 4]);
            here.publish();
            let mut back = false;
            while !back {
                here.receive(|_, message| back = message[0] == trip);
                spin_loop();
            }
        }
        started.elapsed()
    })
}
