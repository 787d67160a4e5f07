//! An idle broker whose threads are taken off the CPU again and again goes on afterwards.
//!
//! Stock glommio can park with work in its queue when its preemption timer expires while the
//! thread is off the CPU; a stop of 130 ms is longer than the default timer. Such an executor
//! wakes at any signal, so the next stop would hide what the last one did: after each stop this test
//! waits until every executor has turned, and sends no signal to one that has not. The watchdog is
//! off: the executors must need no help.
//!
//! Takes about 70 seconds.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod support;

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

const STOPS: u32 = 500;
const STOP: Duration = Duration::from_millis(130);

#[test]
fn broker_process() {
    support::be_a_broker_if_asked();
}

#[test]
fn an_idle_broker_turns_on_after_500_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let arguments = [path, "--shards", "2", "--tick-us", "1000", "--no-watchdog"];
    let mut broker = support::BrokerProcess::start(&arguments);
    assert_eq!(broker.alive(), "alive");
    for stop in 1..=STOPS {
        broker.signal(Signal::STOP);
        // Not to wait for anything: the length of the stop is what is tested.
        thread::sleep(STOP);
        broker.signal(Signal::CONT);
        assert_eq!(broker.alive(), "alive", "after stop {stop}");
    }
    assert!(broker.terminate().success());
}
