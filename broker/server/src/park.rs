//! The one place where an executor's loop waits.
//!
//! It wakes for a ready socket, a completed disk operation, a message from another shard (or the
//! admin thread, or the watchdog), or the clock. Every wait is a real one: it returns to glommio's
//! reactor, which is what submits and completes disk operations.

use std::cell::Cell;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use glommio::timer::Timer;

use crate::readiness::Readiness;
use crate::ring::Bell;

/// How the executor's other tasks (disk operations) wake its loop.
#[derive(Default)]
pub(crate) struct Nudge {
    nudged: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Nudge {
    pub(crate) fn nudge(&self) {
        self.nudged.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Wakes this one at the next nudge.
    pub(crate) fn wake_with(&self, waker: &Waker) {
        self.waker.set(Some(waker.clone()));
    }
}

/// A wait without readiness, when no descriptor is left to wait with.
const BLIND_WAIT: Duration = Duration::from_millis(1);

/// A wait in progress.
pub(crate) struct Park<'a> {
    readiness: &'a mut Readiness,
    epoll: &'a OwnedFd,
    bell: &'a Bell,
    nudge: &'a Rc<Nudge>,
    timer: Timer,
}

impl<'a> Park<'a> {
    /// The caller has raised the bell's flag and looked into the rings again.
    pub(crate) fn new(
        readiness: &'a mut Readiness,
        epoll: &'a OwnedFd,
        bell: &'a Bell,
        nudge: &'a Rc<Nudge>,
        at_most: Duration,
    ) -> Self {
        Park { readiness, epoll, bell, nudge, timer: Timer::new(at_most) }
    }
}

impl Future for Park<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let park = &mut *self;
        park.bell.listen(context.waker());
        if !park.bell.doorbell().is_raised() || park.nudge.nudged.take() {
            return Poll::Ready(());
        }
        match park.readiness.poll(context, park.epoll) {
            Poll::Ready(Ok(())) => return Poll::Ready(()),
            // Out of descriptors: look again in a moment.
            Poll::Ready(Err(_)) => park.timer = Timer::new(BLIND_WAIT),
            Poll::Pending => {}
        }
        if Pin::new(&mut park.timer).poll(context).is_ready() {
            return Poll::Ready(());
        }
        park.nudge.wake_with(context.waker());
        Poll::Pending
    }
}
