//! The wake protocol, under every interleaving that the memory model allows.
//!
//! The ring is a counter here, published with the orderings that `rtrb` uses: what is checked is
//! that no wake is lost, not the ring.

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

#[path = "../src/doorbell.rs"]
mod doorbell;

use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::thread;

use doorbell::Doorbell;
use sync::{AtomicBool, Ordering};

/// Preemptions of one execution with three threads; without a bound it takes minutes.
const PREEMPTIONS_MAX: usize = 3;

struct Core {
    published: AtomicUsize,
    doorbell: Doorbell,
    /// A doorbell without fences.
    flag: AtomicBool,
}

fn core() -> Core {
    Core {
        published: AtomicUsize::new(0),
        doorbell: Doorbell::default(),
        flag: AtomicBool::new(false),
    }
}

fn send(core: &Core, receiver: &thread::Thread, messages: usize) {
    core.published.fetch_add(messages, Ordering::Release);
    if core.doorbell.ring() {
        receiver.unpark();
    }
}

/// Takes messages until all have come; loom reports a deadlock if a wake was lost.
fn receive(core: &Core, messages: usize) {
    loop {
        if core.published.load(Ordering::Acquire) == messages {
            return;
        }
        core.doorbell.raise();
        if core.published.load(Ordering::Acquire) == messages {
            core.doorbell.lower();
            return;
        }
        while core.doorbell.is_raised() {
            thread::park();
        }
        core.doorbell.lower();
    }
}

#[test]
fn no_wake_is_lost_with_one_sender() {
    loom::model(|| {
        let core = Arc::new(core());
        let receiver = thread::current();
        let sender = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                send(&core, &receiver, 1);
                send(&core, &receiver, 1);
            })
        };
        receive(&core, 2);
        sender.join().expect("the sender does not panic");
    });
}

#[test]
fn no_wake_is_lost_with_two_senders() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS_MAX);
    model.check(|| {
        let core = Arc::new(core());
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let core = Arc::clone(&core);
                let receiver = thread::current();
                thread::spawn(move || send(&core, &receiver, 1))
            })
            .collect();
        receive(&core, 2);
        for sender in senders {
            sender.join().expect("the senders do not panic");
        }
    });
}

/// Does the sender or the receiver notice the other, in every execution? `ring` and `raise` are
/// the two halves of a protocol.
fn someone_notices(ring: fn(&Core) -> bool, raise: fn(&Core)) -> bool {
    // Not one of loom's: it outlives the executions.
    let lost = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = std::sync::Arc::clone(&lost);
    loom::model(move || {
        let core = Arc::new(core());
        let sender = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                core.published.fetch_add(1, Ordering::Release);
                ring(&core)
            })
        };
        raise(&core);
        let received = core.published.load(Ordering::Acquire) == 1;
        let rang = sender.join().expect("the sender does not panic");
        if !received && !rang {
            seen.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    !lost.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn the_second_look_or_the_ring_succeeds_and_the_model_can_tell() {
    assert!(someone_notices(|core| core.doorbell.ring(), |core| core.doorbell.raise()));
    // The same without the fences: loom finds the execution in which both look too early.
    let lost = !someone_notices(
        |core| core.flag.swap(false, Ordering::AcqRel),
        |core| core.flag.store(true, Ordering::Release),
    );
    assert!(lost);
}
