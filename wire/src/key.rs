//! The keys that records are found by, and sets of them that a subscriber asks for.
//!
//! A record of telemetry has two keys, its GPU's uuid and its host's name; a generic message has
//! one. A key is hashed together with its kind, so that a host that is named like a GPU is still
//! another key:
//!
//! ```text
//!  f = FNV-1a-64(key bytes, then one byte: the number of its kind)
//!  h = mix(f),  mix(x): x ^= x >> 33; x *= 0xff51afd7ed558ccd; x ^= x >> 33;
//!                       x *= 0xc4ceb9fe1a85ec53; x ^= x >> 33
//! ```
//!
//! The first is [`Slot`](crate::Slot)'s hash, carried on by one byte, the second the finalizer of
//! MurmurHash3 (<https://github.com/aappleby/smhasher>): FNV alone mixes its high bits badly, and a
//! [summary](crate::summary) takes bits from everywhere. Both stand in batches on disk, so they
//! never change.

use rkyv::{Archive, Deserialize, Serialize};

use crate::generic::Message;
use crate::ids::{FNV_START, fnv1a};
use crate::limits::{FILTER_KEYS_MAX, MESSAGE_KEY_BYTES_MAX};
use crate::message::Refusal;
use crate::{ErrorCode, Slot};

/// What a key names. The numbers are part of the hash.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[repr(u8)]
pub enum KeyKind {
    /// A GPU, by its uuid.
    Gpu = 1,
    /// A host, by its name.
    Host = 2,
    /// A generic message's key.
    Message = 3,
}

/// The hash of a key and its kind; see the module's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u64);

impl KeyHash {
    #[must_use]
    pub fn of(kind: KeyKind, key: &[u8]) -> Self {
        let mut x = fnv1a(fnv1a(FNV_START, key), &[kind as u8]);
        x ^= x >> 33;
        x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
        x ^= x >> 33;
        x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        x ^= x >> 33;
        Self(x)
    }
}

/// One key that a subscriber wants.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilterKey {
    pub kind: KeyKind,
    pub key: Vec<u8>,
}

/// The keys that a subscriber wants: a record passes that has any of them. Empty: all pass.
///
/// The broker leaves whole batches out by their summaries; which records of the others pass is
/// for the subscriber to see, with this same set.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFilter {
    keys: Vec<FilterKey>,
}

impl KeyFilter {
    /// Lets everything pass.
    pub const NONE: KeyFilter = KeyFilter { keys: Vec::new() };

    /// Adds a key; one that is there already is not added again.
    #[must_use]
    pub fn with(mut self, kind: KeyKind, key: impl Into<Vec<u8>>) -> Self {
        let key = FilterKey { kind, key: key.into() };
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
        self
    }

    /// Adds a GPU, by its uuid.
    #[must_use]
    pub fn gpu(self, uuid: impl Into<String>) -> Self {
        self.with(KeyKind::Gpu, uuid.into())
    }

    /// Adds a host, by its name.
    #[must_use]
    pub fn host(self, name: impl Into<String>) -> Self {
        self.with(KeyKind::Host, name.into())
    }

    /// Adds the key of generic messages.
    #[must_use]
    pub fn message_key(self, key: impl Into<Vec<u8>>) -> Self {
        self.with(KeyKind::Message, key)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    #[must_use]
    pub fn keys(&self) -> &[FilterKey] {
        &self.keys
    }

    /// Does a record with this key pass?
    #[must_use]
    pub fn wants(&self, kind: KeyKind, key: &[u8]) -> bool {
        self.is_empty() || self.keys.iter().any(|wanted| wanted.kind == kind && wanted.key == key)
    }

    /// Does a sample of this GPU on this host pass?
    #[must_use]
    pub fn wants_sample(&self, uuid: &str, hostname: &str) -> bool {
        self.wants(KeyKind::Gpu, uuid.as_bytes()) || self.wants(KeyKind::Host, hostname.as_bytes())
    }

    /// Does a generic message pass?
    #[must_use]
    pub fn wants_message(&self, message: &Message<'_>) -> bool {
        self.wants(KeyKind::Message, message.key)
    }

    /// The hashes that summaries are asked for.
    pub fn hashes(&self) -> impl Iterator<Item = KeyHash> + '_ {
        self.keys.iter().map(|wanted| KeyHash::of(wanted.kind, &wanted.key))
    }

    /// The only partitions, of so many, that can have a wanted record, in order; `None` if any can.
    /// A producer puts a record into the slot of its GPU or message key, but a host's records are
    /// in every partition.
    #[must_use]
    pub fn partitions(&self, partitions: u32) -> Option<Vec<u32>> {
        if self.is_empty() || self.keys.iter().any(|wanted| wanted.kind == KeyKind::Host) {
            return None;
        }
        let of = |wanted: &FilterKey| Slot::of_key(&wanted.key).partition(partitions);
        let mut found: Vec<u32> = self.keys.iter().map(of).collect();
        found.sort_unstable();
        found.dedup();
        Some(found)
    }

    /// # Errors
    /// There are too many keys, or one is longer than any key.
    pub fn check(&self) -> Result<(), Refusal> {
        let refuse = |message| Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
        let count = self.keys.len();
        if count > FILTER_KEYS_MAX {
            return refuse(format!("filter has {count} keys, {FILTER_KEYS_MAX} are allowed"));
        }
        match self.keys.iter().map(|wanted| wanted.key.len()).max() {
            Some(bytes) if bytes > MESSAGE_KEY_BYTES_MAX => refuse(format!(
                "a key of the filter has {bytes} bytes, {MESSAGE_KEY_BYTES_MAX} are allowed"
            )),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_part_of_its_key() {
        let filter = KeyFilter::default().gpu("a").host("b").message_key("c").gpu("a");
        assert_eq!(filter.keys().len(), 3);
        assert!(filter.wants_sample("a", "x") && filter.wants_sample("x", "b"));
        assert!(!filter.wants_sample("b", "a"));
        assert!(filter.wants_message(&Message::new(b"c", b"")));
        assert!(!filter.wants_message(&Message::new(b"a", b"")));
        let hashes: std::collections::BTreeSet<_> = [KeyKind::Gpu, KeyKind::Host, KeyKind::Message]
            .map(|kind| KeyHash::of(kind, b"same"))
            .into();
        assert_eq!(hashes.len(), 3);
    }

    #[test]
    fn partitions_are_known_unless_a_host_is_wanted() {
        let gpus = KeyFilter::default().gpu("GPU-1").gpu("GPU-2");
        let wanted = ["GPU-1", "GPU-2"].map(|uuid| Slot::of_key(uuid.as_bytes()).partition(256));
        let found = gpus.partitions(256).unwrap();
        assert!(wanted.iter().all(|partition| found.contains(partition)) && found.len() <= 2);
        assert_eq!(gpus.partitions(1), Some(vec![0]));
        assert_eq!(gpus.host("h").partitions(256), None);
        assert_eq!(KeyFilter::default().partitions(256), None);
    }

    #[test]
    fn filters_over_a_limit_are_refused() {
        let many =
            (0..FILTER_KEYS_MAX).fold(KeyFilter::default(), |filter, n| filter.gpu(format!("{n}")));
        assert_eq!(many.check(), Ok(()));
        assert!(many.gpu("x").check().unwrap_err().message.contains("keys"));
        let long = KeyFilter::default().message_key(vec![0; MESSAGE_KEY_BYTES_MAX + 1]);
        assert!(long.check().unwrap_err().message.contains("bytes"));
    }
}
