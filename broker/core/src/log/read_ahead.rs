//! The bytes of all segments of a log, in order, read ahead of whoever goes through them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::block::Place;
use crate::SegmentFile;
use crate::limits::{BLOCK_BYTES_MAX, READ_ATTEMPTS_MAX, READ_BYTES, RECOVERY_READS_IN_FLIGHT_MAX};

/// A piece of a segment that was asked for.
#[derive(Debug)]
struct Piece {
    file: usize,
    place: Place,
    bytes: u32,
    content: Option<Bytes>,
    /// What it was when it was read before; then it is to be asked for again.
    doubted: Option<Bytes>,
    asked: bool,
    attempts: u32,
    /// It reads the same each time, whether or not it is as it should be.
    certain: bool,
}

/// Reads are of [`READ_BYTES`] and at multiples of it; only a block that lies across two of them is
/// copied together.
#[derive(Debug)]
pub(super) struct ReadAhead {
    files: Vec<SegmentFile>,
    /// Where the next read begins: number of the file, position in it.
    next: (usize, u64),
    pieces: VecDeque<Piece>,
}

impl ReadAhead {
    pub(super) fn new(files: Vec<SegmentFile>) -> Self {
        ReadAhead { files, next: (0, 0), pieces: VecDeque::new() }
    }

    /// The next read to make, if it is time.
    pub(super) fn wants(&mut self) -> Option<(Place, u32)> {
        if let Some(piece) = self.pieces.iter_mut().find(|piece| !piece.asked) {
            piece.asked = true;
            return Some((piece.place, piece.bytes));
        }
        if self.pieces.len() >= RECOVERY_READS_IN_FLIGHT_MAX {
            return None;
        }
        loop {
            let (at, position) = self.next;
            let file = self.files.get(at)?;
            if position >= file.bytes {
                self.next = (at + 1, 0);
                continue;
            }
            let bytes = u32::try_from(file.bytes - position).unwrap_or(u32::MAX).min(READ_BYTES);
            let place = Place { segment: file.segment, position };
            self.next = (at, position + u64::from(bytes));
            self.pieces.push_back(Piece {
                file: at,
                place,
                bytes,
                content: None,
                doubted: None,
                asked: true,
                attempts: 1,
                certain: false,
            });
            return Some((place, bytes));
        }
    }

    /// A read is answered. False: with less than there is.
    pub(super) fn answer(&mut self, place: Place, content: Bytes) -> bool {
        let Some(piece) = self.pieces.iter_mut().find(|piece| piece.place == place) else {
            return true;
        };
        let whole = content.len() as u64 >= u64::from(piece.bytes);
        let same = piece.doubted.take().is_some_and(|before| before == content);
        piece.certain = same || piece.attempts >= READ_ATTEMPTS_MAX;
        piece.content = Some(content);
        whole
    }

    /// What is at this position is not as it should be: reads it again, unless that has been done.
    /// True: look again once it is there.
    pub(super) fn doubt(&mut self, file: usize, position: u64) -> bool {
        let end = position + BLOCK_BYTES_MAX as u64;
        let mut again = false;
        for piece in &mut self.pieces {
            let from = piece.place.position;
            let overlaps =
                piece.file == file && from < end && position < from + u64::from(piece.bytes);
            if overlaps && !piece.certain && piece.content.is_some() {
                piece.doubted = piece.content.take();
                piece.asked = false;
                piece.attempts += 1;
                again = true;
            }
        }
        again
    }

    /// What lies at a position: `needed` bytes or more, less only at the file's end. `None`: not
    /// read yet. Positions only rise.
    pub(super) fn front(&mut self, file: usize, position: u64, needed: u64) -> Option<Bytes> {
        while self.pieces.front().is_some_and(|piece| {
            let end = piece.place.position + u64::from(piece.bytes);
            piece.file < file || (piece.file == file && end <= position)
        }) {
            self.pieces.pop_front();
        }
        let first = self.pieces.front()?;
        debug_assert!(first.file == file && first.place.position <= position);
        let skipped = (position - first.place.position) as usize;
        let content = first.content.as_ref()?.slice(skipped..);
        let left = self.files.get(file).map_or(0, |file| file.bytes - position);
        let needed = needed.min(left) as usize;
        if content.len() >= needed {
            return Some(content);
        }
        let mut whole = BytesMut::with_capacity(needed);
        whole.extend_from_slice(&content);
        for piece in self.pieces.iter().skip(1) {
            if whole.len() >= needed || piece.file != file {
                break;
            }
            let content = piece.content.as_ref()?;
            whole.extend_from_slice(&content[..content.len().min(needed - whole.len())]);
        }
        (whole.len() >= needed).then(|| whole.freeze())
    }
}
