//! The relay's protocol, which is none: batches, one behind the other.

use super::{BatchName, Batches, Outgoing, Publisher, Subscriber};
use crate::Error;

/// Sends batches without a frame, and hears nothing.
pub struct BarePublisher {
    batches: Batches,
    head: Vec<u8>,
    number: u64,
}

impl BarePublisher {
    #[must_use]
    pub fn new(batches: &Batches) -> Self {
        Self { batches: batches.clone(), head: Vec::new(), number: 0 }
    }
}

impl Publisher for BarePublisher {
    fn publish(&mut self, out: &mut Outgoing) {
        self.batches.head(0, self.number, &mut self.head);
        self.number += 1;
        out.small(&self.head);
        out.body(self.batches.body());
    }

    fn receive(&mut self, _bytes: &[u8], _out: &mut Outgoing) -> Result<u32, Error> {
        Err(Error::Protocol { system: "relay", detail: "it answered".to_owned() })
    }
}

/// Counts bytes: every so many are a batch.
pub struct BareSubscriber {
    batch_bytes: usize,
    partial: usize,
    number: u64,
}

impl BareSubscriber {
    #[must_use]
    pub fn new(batches: &Batches) -> Self {
        Self { batch_bytes: batches.bytes(), partial: 0, number: 0 }
    }
}

impl Subscriber for BareSubscriber {
    fn receive(
        &mut self,
        bytes: &[u8],
        _out: &mut Outgoing,
        delivered: &mut dyn FnMut(BatchName),
    ) -> Result<(), Error> {
        self.partial += bytes.len();
        while self.partial >= self.batch_bytes {
            self.partial -= self.batch_bytes;
            delivered(BatchName { publisher: 0, number: self.number });
            self.number += 1;
        }
        Ok(())
    }
}
