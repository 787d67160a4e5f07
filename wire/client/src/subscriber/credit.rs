//! Credit on its way back from the application.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

/// Bytes per partition that the application has dealt with, of one connection.
///
/// Each connection has its own: what an old one delivered must not raise the credit of a new one.
#[derive(Debug, Default)]
pub(super) struct CreditOwed {
    bytes: Mutex<BTreeMap<u32, u64>>,
    changed: Arc<Notify>,
}

impl CreditOwed {
    /// `changed` is told whenever something is owed.
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        Self { bytes: Mutex::default(), changed }
    }

    pub(super) fn done(&self, partition: u32, bytes: u64) {
        let mut owed = self.bytes.lock().expect("nothing panics under the lock");
        *owed.entry(partition).or_default() += bytes;
        drop(owed);
        self.changed.notify_one();
    }

    pub(super) fn take(&self) -> BTreeMap<u32, u64> {
        std::mem::take(&mut *self.bytes.lock().expect("nothing panics under the lock"))
    }
}
