//! The loop against a sham system that answers each byte with one, and stalls when it is told to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::load::Publisher;
use crate::load::{Outgoing, run_together};

/// A batch is a byte; so is its answer.
struct ByteByByte {
    window: u32,
    under_way: u64,
    /// The most that ever were under way on this connection.
    most: Arc<AtomicU64>,
}

impl Publisher for ByteByByte {
    fn publish(&mut self, out: &mut Outgoing) {
        self.under_way += 1;
        self.most.fetch_max(self.under_way, Ordering::Relaxed);
        out.small(&[1]);
    }

    fn receive(&mut self, bytes: &[u8], _out: &mut Outgoing) -> Result<u32, Error> {
        self.under_way -= bytes.len() as u64;
        Ok(bytes.len() as u32)
    }

    fn window(&self) -> u32 {
        self.window
    }
}

/// A system that answers every batch; `before` is called before the batch with that number is.
fn sham(mut before: impl FnMut(u64) -> Answer + Send + 'static) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nodelay(true).unwrap();
    let (mut system, _) = listener.accept().unwrap();
    system.set_nodelay(true).unwrap();
    thread::spawn(move || {
        let mut number = 0;
        let mut bytes = [0; 4096];
        // Ends when the client is gone.
        while let Ok(count @ 1..) = system.read(&mut bytes) {
            for _ in 0..count {
                if before(number) == Answer::Yes && system.write_all(&[1]).is_err() {
                    return;
                }
                number += 1;
            }
        }
    });
    client
}

#[derive(PartialEq)]
enum Answer {
    Yes,
    Never,
}

fn fleet_of(sockets: Vec<TcpStream>, window: u32, most: &Arc<AtomicU64>) -> Fleet {
    let mut fleet = Fleet { batch_records: 3, batch_bytes: 1, ..Fleet::default() };
    for socket in sockets {
        let publisher = ByteByByte { window, under_way: 0, most: Arc::clone(most) };
        fleet.publishers.push((socket, Box::new(publisher)));
    }
    fleet
}

fn plan(load: Load, duration_ms: u64) -> Plan {
    Plan {
        load,
        completion: Completion::Acknowledged,
        idle: Idle::Sleep,
        warmup: Duration::ZERO,
        duration: Duration::from_millis(duration_ms),
    }
}

fn no_stages() -> Vec<(String, Duration)> {
    Vec::new()
}

#[test]
fn a_stall_shows_on_every_batch_that_was_due_meanwhile() {
    const STALL: Duration = Duration::from_millis(200);
    for window in [1, u32::MAX] {
        let socket = sham(|number| {
            if number == 100 {
                thread::sleep(STALL);
            }
            Answer::Yes
        });
        let fleet = fleet_of(vec![socket], window, &Arc::default());
        let plan = plan(Load::Open { batches_per_second: 1000.0 }, 1000);
        let sample = run(&plan, fleet, &no_stages).unwrap();
        assert_eq!(sample.latencies.count(), 1000, "all that were due count");
        // A tenth of all was due in the first half of the stall: each was at least the other half late,
        // whether or not the window let it be sent.
        let late_ns = sample.latencies.percentile_ns(91.0);
        assert!(late_ns >= STALL.as_nanos() as u64 / 2, "window {window}: {late_ns} ns");
    }
}

#[test]
fn what_was_due_and_not_sent_before_the_end_counts() {
    let socket = sham(|number| if number < 50 { Answer::Yes } else { Answer::Never });
    let fleet = fleet_of(vec![socket], 1, &Arc::default());
    let plan = plan(Load::Open { batches_per_second: 1000.0 }, 500);
    let drain = Duration::from_millis(10);
    let sample = run_until_drained(&plan, fleet, &no_stages, None, drain).unwrap();
    assert_eq!((sample.records, sample.latencies.count()), (50 * 3, 500));
    // A tenth was done, and four tenths were due in the second half of what was left.
    assert!(sample.latencies.percentile_ns(56.0) >= 200_000_000);
}

#[test]
fn a_closed_loop_fills_its_window_and_never_exceeds_it() {
    for (in_flight, window, most_expected) in [(7, u32::MAX, 7), (40, 5, 5)] {
        let most = Arc::new(AtomicU64::new(0));
        let sockets = vec![sham(|_| Answer::Yes), sham(|_| Answer::Yes)];
        let fleet = fleet_of(sockets, window, &most);
        let sample = run(&plan(Load::Closed { in_flight }, 100), fleet, &no_stages).unwrap();
        assert_eq!(most.load(Ordering::Relaxed), most_expected);
        // Of 3 records each; what was under way at the end has a latency, and counts as no record.
        let (done, timed) = (sample.records / 3, sample.latencies.count());
        assert!(done > 0 && (done..=done + 2 * most_expected).contains(&timed), "{done} {timed}");
        assert_eq!(sample.bytes, done);
    }
}

#[test]
fn a_batch_that_never_comes_is_late() {
    const DRAIN: Duration = Duration::from_millis(150);
    let socket = sham(|number| if number < 10 { Answer::Yes } else { Answer::Never });
    let fleet = fleet_of(vec![socket], u32::MAX, &Arc::default());
    let plan = plan(Load::Closed { in_flight: 4 }, 100);
    let sample = run_until_drained(&plan, fleet, &no_stages, None, DRAIN).unwrap();
    assert_eq!((sample.records, sample.latencies.count()), (10 * 3, 10 + 4));
    // 4 of 14 wait until the loop gives up.
    assert!(sample.latencies.percentile_ns(72.0) >= DRAIN.as_nanos() as u64);
}

#[test]
fn a_system_that_does_nothing_is_an_error_and_no_result() {
    let fleet = fleet_of(vec![sham(|_| Answer::Never)], u32::MAX, &Arc::default());
    let plan = plan(Load::Closed { in_flight: 1 }, 20);
    let result = run_until_drained(&plan, fleet, &no_stages, None, Duration::from_millis(20));
    assert!(result.unwrap_err().to_string().contains("a single batch"));
}

#[test]
fn intervals_add_up_to_the_whole() {
    let fleet = fleet_of(vec![sham(|_| Answer::Yes)], u32::MAX, &Arc::default());
    let plan = plan(Load::Open { batches_per_second: 2000.0 }, 400);
    let mut intervals = Vec::new();
    let mut tell = |sample: Sample| {
        intervals.push(sample);
        ControlFlow::Continue(())
    };
    let pulse = Pulse { every: Duration::from_millis(100), tell: &mut tell };
    let sample = run_observed(&plan, fleet, &no_stages, pulse).unwrap();
    let records: u64 = intervals.iter().map(|interval| interval.records).sum();
    let timed: u64 = intervals.iter().map(|interval| interval.latencies.count()).sum();
    assert!(!intervals.is_empty() && records <= sample.records, "{records} {}", sample.records);
    assert!(intervals.iter().all(|interval| interval.elapsed >= Duration::from_millis(100)));
    assert!(timed <= sample.latencies.count() && timed > 0, "{timed}");
}

#[test]
fn a_run_that_nobody_wants_any_more_ends_with_what_it_has() {
    let fleet = fleet_of(vec![sham(|_| Answer::Yes)], u32::MAX, &Arc::default());
    let plan = plan(Load::Open { batches_per_second: 1000.0 }, 600_000);
    let mut told = 0;
    let mut tell = |_| {
        told += 1;
        if told == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let pulse = Pulse { every: Duration::from_millis(50), tell: &mut tell };
    let sample = run_observed(&plan, fleet, &no_stages, pulse).unwrap();
    assert!(sample.elapsed >= Duration::from_millis(100), "{:?}", sample.elapsed);
    assert!(sample.elapsed < Duration::from_secs(600) && sample.records > 0);
    assert_eq!(told, 2);
}

#[test]
fn a_crew_does_what_its_members_do() {
    let fleet = || fleet_of(vec![sham(|_| Answer::Yes)], u32::MAX, &Arc::default());
    let plan = plan(Load::Open { batches_per_second: 1000.0 }, 300);
    let stages = || vec![("system".to_owned(), Duration::from_millis(1))];
    let cores = crate::cpu::cores();
    let sample = run_together(&plan, vec![fleet(), fleet(), fleet()], &cores, &stages).unwrap();
    // 1000 a second of all together.
    assert_eq!(sample.latencies.count(), 300);
    let stages: Vec<&str> = sample.cpu.iter().map(|(stage, _)| &**stage).collect();
    assert_eq!(stages, ["system", "client"]);
}
