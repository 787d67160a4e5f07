//! What became of single records.
//!
//! Records of one batch have one fate, so they share one slot for it: a receipt is a reference to
//! that slot and the record's place in the batch, and taking one allocates nothing but the slot
//! itself, once a batch.

use std::sync::{Arc, OnceLock};

use lanecast_wire::Offset;
use lanecast_wire::message::ProduceReply;
use tokio::sync::Notify;

use crate::error::ProduceError;

/// What became of a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Published {
    /// It is in this process's memory, on its way.
    Taken,
    /// It is in the topic, as durable as the topic promises.
    Appended {
        partition: u32,
        offset: Offset,
        /// It was appended by an earlier try, whose answer got lost.
        duplicate: bool,
    },
    /// The topic is full and drops what it has no room for: the message is nowhere.
    Dropped { partition: u32 },
}

/// Why the producer ended; shared by everybody who waits for it.
pub(super) type Failure = OnceLock<ProduceError>;

/// The fate of one batch.
#[derive(Debug)]
struct Slot {
    partition: u32,
    reply: OnceLock<Option<ProduceReply>>,
    settled: Notify,
    failure: Arc<Failure>,
}

/// The producer's end of a slot. Dropped without a reply, it says that the producer has ended.
#[derive(Debug)]
pub(super) struct Fate(Arc<Slot>);

impl Fate {
    pub(super) fn new(partition: u32, failure: Arc<Failure>) -> Self {
        let (reply, settled) = (OnceLock::new(), Notify::new());
        Self(Arc::new(Slot { partition, reply, settled, failure }))
    }

    /// For the record at `index` of the batch.
    pub(super) fn receipt(&self, index: u32) -> Receipt {
        Receipt { slot: Arc::clone(&self.0), index }
    }

    pub(super) fn settle(&self, reply: ProduceReply) {
        self.set(Some(reply));
    }

    fn set(&self, reply: Option<ProduceReply>) {
        // What is set first stands: a reply, before the end.
        let _ = self.0.reply.set(reply);
        self.0.settled.notify_waiters();
    }
}

impl Drop for Fate {
    fn drop(&mut self) {
        self.set(None);
    }
}

/// Tells what becomes of one message. Dropping it changes nothing for the message.
#[derive(Clone, Debug)]
#[must_use = "a receipt that is dropped tells nobody whether the message was stored"]
pub struct Receipt {
    slot: Arc<Slot>,
    index: u32,
}

impl Receipt {
    /// Waits until the message is as durable as the topic promises, or dropped. May be asked as
    /// often as wanted, and cancelled.
    ///
    /// # Errors
    /// The producer has failed or was dropped; the message may or may not be in the topic.
    pub async fn acknowledged(&self) -> Result<Published, ProduceError> {
        loop {
            let settled = self.slot.settled.notified();
            let mut settled = std::pin::pin!(settled);
            settled.as_mut().enable();
            if let Some(published) = self.outcome() {
                return published;
            }
            settled.await;
        }
    }

    /// The same, if it is known already.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<Published, ProduceError>> {
        let partition = self.slot.partition;
        Some(match self.slot.reply.get()? {
            Some(ProduceReply { dropped: true, .. }) => Ok(Published::Dropped { partition }),
            Some(ProduceReply { base_offset, duplicate, dropped: false }) => {
                let offset = Offset(base_offset + u64::from(self.index));
                Ok(Published::Appended { partition, offset, duplicate: *duplicate })
            }
            None => Err(self.slot.failure.get().cloned().unwrap_or(ProduceError::Closed)),
        })
    }
}
