//! Bytes on their way out: small frames gathered, bulk bytes by reference.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes next to each other: a batch, or whole frames and heads of frames.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    is_bulk: bool,
}

/// What a session has to send, in order.
///
/// Frame heads and small frames are written one behind the other into shared blocks; batches are
/// kept as the slices that they are, so nothing bulky is copied. A shell either takes all of it
/// ([`Output::take`]) or writes from the front ([`Output::slices`], [`Output::advance`]).
#[derive(Debug, Default)]
pub struct Output {
    ready: VecDeque<Piece>,
    /// Small frames behind everything in `ready`.
    tail: BytesMut,
    bytes: usize,
}

impl Output {
    /// Bytes not yet taken or written.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends what `write` writes.
    pub(crate) fn small(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.tail.len();
        write(&mut self.tail);
        self.bytes += self.tail.len() - before;
    }

    /// Appends bulk bytes by reference.
    pub(crate) fn bulk(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.close_tail();
        self.ready.push_back(Piece { bytes, is_bulk: true });
    }

    /// Everything there is to send, in order.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.take_with(|small| small)
    }

    /// The same, but all that is not bulk goes through `change`, which keeps its length.
    pub(crate) fn take_with(&mut self, mut change: impl FnMut(Bytes) -> Bytes) -> Vec<Bytes> {
        self.close_tail();
        self.bytes = 0;
        let changed = |piece: Piece| {
            if piece.is_bulk { piece.bytes } else { change(piece.bytes) }
        };
        self.ready.drain(..).map(changed).collect()
    }

    /// Fills `slices` with the front of what there is to send; gives back how many it used.
    pub fn slices<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.close_tail();
        let mut used = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.ready) {
            *slice = IoSlice::new(&piece.bytes);
            used += 1;
        }
        used
    }

    /// The first `count` bytes were written.
    pub fn advance(&mut self, mut count: usize) {
        self.close_tail();
        assert!(count <= self.bytes, "more bytes written than there were");
        self.bytes -= count;
        while count > 0 {
            let front = self.ready.front_mut().expect("the count is within what is ready");
            let front = &mut front.bytes;
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.ready.pop_front();
        }
    }

    /// Drops everything: the connection is gone.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            let bytes = self.tail.split().freeze();
            self.ready.push_back(Piece { bytes, is_bulk: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_bulk_bytes_leave_in_order() {
        let mut output = Output::default();
        output.small(|tail| tail.extend_from_slice(b"ab"));
        output.small(|tail| tail.extend_from_slice(b"cd"));
        output.bulk(Bytes::from_static(b"EFG"));
        output.small(|tail| tail.extend_from_slice(b"hi"));
        assert_eq!(output.bytes(), 9);
        output.advance(3);
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(output.slices(&mut slices), 2);
        assert_eq!((&*slices[0], &*slices[1]), (&b"d"[..], &b"EFG"[..]));
        output.advance(4);
        assert_eq!(output.take(), [Bytes::from_static(b"hi")]);
        assert!(output.is_empty());
    }
}
