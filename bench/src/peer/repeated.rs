//! Batches of peers whose protocols write a record the same way each time.
//!
//! All records but the last are one buffer, made once. The last one starts with the batch's name, by
//! which a subscriber knows it:
//!
//! ```text
//!   payload   0..4 publisher   4..12 number of the batch   12.. noise
//! ```
//!
//! Records that end no batch have [`NOBODY`] as their publisher.

use bytes::Bytes;

use crate::Error;
use crate::load::{BatchName, Batches, Outgoing};

const NOBODY: u32 = u32::MAX;
const NAME_BYTES: usize = 12;

/// What a record carries.
#[derive(Clone, Debug)]
pub struct Payload(Bytes);

impl Payload {
    /// As many bytes as key and payload of a generic message of `record_bytes`.
    ///
    /// # Errors
    /// There is no room for a name.
    pub fn new(record_bytes: usize) -> Result<Self, Error> {
        let mut bytes = Batches::content(record_bytes)?;
        if bytes.len() < NAME_BYTES {
            return Err(Error::Usage(format!("a record of {record_bytes} bytes is too small")));
        }
        bytes[..4].copy_from_slice(&NOBODY.to_le_bytes());
        Ok(Self(Bytes::from(bytes)))
    }

    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The name that the last record of a batch begins with.
    pub(super) fn name(publisher: u32, number: u64) -> [u8; NAME_BYTES] {
        let mut name = [0; NAME_BYTES];
        name[..4].copy_from_slice(&publisher.to_le_bytes());
        name[4..].copy_from_slice(&number.to_le_bytes());
        name
    }

    /// The batch that a record with this payload is the last one of.
    pub(super) fn ends(payload: &[u8]) -> Option<BatchName> {
        let (publisher, rest) = payload.split_first_chunk()?;
        let publisher = u32::from_le_bytes(*publisher);
        let number = u64::from_le_bytes(*rest.first_chunk()?);
        (publisher != NOBODY).then_some(BatchName { publisher, number })
    }
}

/// One batch, again and again.
pub struct Repeated {
    publisher: u32,
    number: u64,
    all_but_last: Bytes,
    before: Vec<u8>,
    after_name: Bytes,
}

impl Repeated {
    /// Batches of `records`, each written as `before`, the payload, and `after`.
    #[must_use]
    pub fn new(
        publisher: u32,
        records: u32,
        before: &[u8],
        payload: &Payload,
        after: &[u8],
    ) -> Self {
        let one = [before, &payload.0, after].concat();
        let all_but_last = Bytes::from(one.repeat(records.saturating_sub(1) as usize));
        let after_name = Bytes::from([&payload.0[NAME_BYTES..], after].concat());
        Self { publisher, number: 0, all_but_last, before: before.to_vec(), after_name }
    }

    pub fn publish(&mut self, out: &mut Outgoing) {
        out.body(&self.all_but_last);
        out.small(&self.before);
        out.small(&Payload::name(self.publisher, self.number));
        out.body(&self.after_name);
        self.number += 1;
    }
}

/// Records that were acknowledged, as whole batches.
#[derive(Debug)]
pub(super) struct Acknowledged {
    batch_records: u32,
    of_batch: u32,
}

impl Acknowledged {
    pub(super) fn new(batch_records: u32) -> Self {
        Self { batch_records, of_batch: 0 }
    }

    /// Batches that are done with `records` more.
    pub(super) fn add(&mut self, records: u32) -> u32 {
        let all = self.of_batch + records;
        self.of_batch = all % self.batch_records;
        all / self.batch_records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_record_of_a_batch_names_it() {
        let payload = Payload::new(1024).unwrap();
        assert_eq!(Payload::ends(payload.bytes()), None);
        let name = Payload::name(7, 99);
        assert_eq!(Payload::ends(&name), Some(BatchName { publisher: 7, number: 99 }));
        assert_eq!(Payload::ends(&name[..11]), None);
    }

    #[test]
    fn acknowledged_records_make_batches() {
        let mut acknowledged = Acknowledged::new(3);
        assert_eq!([2, 1, 7, 2].map(|records| acknowledged.add(records)), [0, 1, 2, 1]);
    }
}
