//! Numbers that nobody can foresee.

use std::hash::{BuildHasher, Hasher, RandomState};

/// From the system's entropy, by way of the standard library's hash keys.
pub(crate) fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}
