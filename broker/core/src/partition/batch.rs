//! A batch on its way into a log.

use std::ops::Deref;

use bytes::{Bytes, BytesMut};

/// Where a batch is.
#[derive(Debug)]
pub(crate) enum Batch<'a> {
    /// In a buffer that somebody goes on using: who keeps it copies it.
    Passing(&'a [u8]),
    /// In memory of its own, or nearly so: it may stay there.
    Staying(BytesMut),
}

impl Batch<'_> {
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Batch::Passing(bytes) => Bytes::copy_from_slice(bytes),
            Batch::Staying(bytes) => bytes.freeze(),
        }
    }
}

impl Deref for Batch<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Batch::Passing(bytes) => bytes,
            Batch::Staying(bytes) => bytes,
        }
    }
}
