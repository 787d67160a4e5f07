//! The protocol of the relay and of the bare answerer, which is none: batches, one behind the other.

use super::{BatchName, Batches, Outgoing, Publisher, Subscriber};
use crate::Error;

/// Sends batches without a frame, and hears nothing, or a byte for each batch.
pub struct BarePublisher {
    batches: Batches,
    head: Vec<u8>,
    number: u64,
    is_answered: bool,
}

impl BarePublisher {
    #[must_use]
    pub fn new(batches: &Batches) -> Self {
        Self { batches: batches.clone(), head: Vec::new(), number: 0, is_answered: false }
    }

    #[must_use]
    pub fn answered(batches: &Batches) -> Self {
        Self { is_answered: true, ..Self::new(batches) }
    }
}

impl Publisher for BarePublisher {
    fn publish(&mut self, out: &mut Outgoing) {
        self.batches.head(0, self.number, &mut self.head);
        self.number += 1;
        out.small(&self.head);
        out.body(self.batches.body());
    }

    fn receive(&mut self, bytes: &[u8], _out: &mut Outgoing) -> Result<u32, Error> {
        if self.is_answered {
            return Ok(u32::try_from(bytes.len()).expect("a buffer is shorter than 4 GiB"));
        }
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
