//! Connections of the loop: what each has under way, and what it hears.

use crate::load::line::Line;
use crate::load::{Completion, Publisher, Subscriber};

pub(super) struct Outlet {
    pub(super) line: Line,
    pub(super) publisher: Box<dyn Publisher>,
    /// When each batch was due, in a ring by its number; in nanoseconds since the start.
    pub(super) due_ns: Vec<u64>,
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    /// By each subscriber.
    pub(super) delivered: Vec<u64>,
}

impl Outlet {
    pub(super) fn done(&self, completion: Completion) -> u64 {
        match completion {
            Completion::Acknowledged => self.acknowledged,
            Completion::Delivered => self.delivered.iter().copied().min().unwrap_or(0),
        }
    }

    pub(super) fn due_of(&self, number: u64) -> u64 {
        self.due_ns[number as usize % self.due_ns.len()]
    }

    /// May another batch be under way?
    pub(super) fn has_room(&self, completion: Completion) -> bool {
        self.sent - self.done(completion) < self.due_ns.len() as u64
            && self.sent - self.acknowledged < u64::from(self.publisher.window())
    }

    pub(super) fn publish(&mut self, due_ns: u64) {
        let at = self.sent as usize % self.due_ns.len();
        self.due_ns[at] = due_ns;
        self.sent += 1;
        self.publisher.publish(&mut self.line.out);
    }
}

pub(super) struct Inlet {
    pub(super) line: Line,
    pub(super) subscriber: Box<dyn Subscriber>,
}
