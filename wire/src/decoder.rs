//! From any chunking of received bytes to whole frames.

use crate::ProtocolError;
use crate::frame::{Frame, FrameHeader, HEADER_BYTES, check_magic, peek};
use crate::limits::{DECODER_KEEP_BYTES, FRAME_BYTES_MAX};

/// Finds the frames in a stream of bytes, whatever the pieces that it arrives in.
///
/// A frame that lies whole in the received bytes is given out in place; only a frame that spans
/// two pieces is gathered in a buffer of the decoder's own. That buffer grows as bytes really
/// arrive (a header that announces 4 MiB costs nothing by itself), holds never more than one frame,
/// goes back to [`DECODER_KEEP_BYTES`] after a large one, and to nothing when the received bytes end
/// where a frame does: a connection without traffic holds no memory. Bytes that begin as no frame
/// does are refused as soon as that shows, long before they make up a header.
///
/// The memory of a frame that has begun can be lent out, so that the rest is received straight into it.
///
/// ```
/// use lanecast_wire::{CorrelationId, FrameDecoder};
/// use lanecast_wire::message::{ClientMessage, Ping};
///
/// let ping = ClientMessage::Ping(Ping {}).encode(CorrelationId(1), 0);
/// let mut decoder = FrameDecoder::default();
/// let (mut first, mut second) = ping.split_at(10);
/// assert!(decoder.next(&mut first).unwrap().is_none());
/// let frame = decoder.next(&mut second).unwrap().expect("the frame is whole now");
/// assert_eq!(frame.header.correlation, CorrelationId(1));
/// ```
#[derive(Debug, Default)]
pub struct FrameDecoder {
    /// The front of an incomplete frame, or a frame that the caller has seen (`given`).
    partial: Vec<u8>,
    /// Header of the frame in `partial`, once it is whole.
    header: Option<FrameHeader>,
    given: bool,
    /// `partial` is with whoever receives the rest of the frame.
    lent: Option<Lent>,
}

/// Memory that is lent out, as it was then.
#[derive(Clone, Copy, Debug)]
struct Lent {
    begun_bytes: usize,
    capacity_bytes: usize,
}

/// Where a whole frame lies: in the received bytes, or in the decoder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'b> {
    pub(crate) header: FrameHeader,
    in_place: Option<&'b [u8]>,
}

impl FrameDecoder {
    /// Takes the next frame off the front of `input`. `None`: all of `input` is taken in and the
    /// frame goes on in the bytes to come. Call until then.
    ///
    /// # Errors
    /// The bytes are no frame. The decoder and the connection are of no use afterwards.
    pub fn next<'d, 'b: 'd>(
        &'d mut self,
        input: &mut &'b [u8],
    ) -> Result<Option<Frame<'d>>, ProtocolError> {
        let Some(found) = self.find(input)? else { return Ok(None) };
        Frame::open(found.header, self.bytes(found)).map(Some)
    }

    /// Like [`Self::next`], in two steps: the place of the next frame, which borrows nothing of the
    /// decoder and is good until the next call.
    pub(crate) fn find<'b>(
        &mut self,
        input: &mut &'b [u8],
    ) -> Result<Option<Found<'b>>, ProtocolError> {
        assert!(
            self.lent.is_none(),
            "the frame that has begun goes on in the memory that was lent"
        );
        if self.given {
            self.restart();
        }
        if !self.partial.is_empty() {
            return self.resume(input);
        }
        if input.is_empty() {
            self.partial = Vec::new();
            return Ok(None);
        }
        let Some(header) = peek(input)? else {
            check_magic(input)?;
            self.take(input, HEADER_BYTES);
            return Ok(None);
        };
        if input.len() < header.frame_bytes() {
            self.header = Some(header);
            self.take(input, header.frame_bytes());
            return Ok(None);
        }
        let (frame, rest) = input.split_at(header.frame_bytes());
        *input = rest;
        Ok(Some(Found { header, in_place: Some(frame) }))
    }

    /// All bytes of a frame that was just found.
    pub(crate) fn bytes<'d, 'b: 'd>(&'d self, found: Found<'b>) -> &'d [u8] {
        found.in_place.unwrap_or(&self.partial)
    }

    /// The frame that was just found, with the memory that it lies in, if it is the decoder's own.
    pub(crate) fn take_gathered(&mut self) -> Option<Vec<u8>> {
        if !self.given {
            return None;
        }
        (self.given, self.header) = (false, None);
        Some(std::mem::take(&mut self.partial))
    }

    /// Lends out the memory of the frame that has begun, with room for more of it, if it is one of
    /// at least `frame_bytes_min` bytes; [`Self::take_back`] follows. There is room for as much again as
    /// has come, and for a frame of `known_bytes`.
    pub(crate) fn lend(&mut self, frame_bytes_min: usize, known_bytes: usize) -> Option<Vec<u8>> {
        let total = self.header?.frame_bytes();
        if !self.has_begun() || self.lent.is_some() || total < frame_bytes_min {
            return None;
        }
        let begun_bytes = self.partial.len();
        let capacity = (2 * begun_bytes).max(known_bytes).min(total);
        self.partial.reserve_exact(capacity - begun_bytes);
        self.lent = Some(Lent { begun_bytes, capacity_bytes: self.partial.capacity() });
        Some(std::mem::take(&mut self.partial))
    }

    /// Takes back what was lent, with what was received behind it; gives what is behind the frame.
    ///
    /// # Panics
    /// Nothing was lent, or less comes back.
    pub(crate) fn take_back(&mut self, buffer: Vec<u8>) -> Vec<u8> {
        let lent = self.lent.take().expect("only what was lent is taken back");
        assert!(buffer.len() >= lent.begun_bytes, "what was lent comes back with what was in it");
        let total = self.header.map_or(buffer.len(), |header| header.frame_bytes());
        self.partial = buffer;
        self.partial.split_off(total.min(self.partial.len()))
    }

    /// Is memory lent out?
    pub(crate) fn has_lent(&self) -> bool {
        self.lent.is_some()
    }

    /// Gathers a frame in `buffer`, if that holds nothing but the front of one, of at least
    /// `frame_bytes_min` bytes, and no other has begun.
    ///
    /// # Errors
    /// Gives the buffer back: it is not so.
    pub(crate) fn gather_in(
        &mut self,
        mut buffer: Vec<u8>,
        frame_bytes_min: usize,
    ) -> Result<(), Vec<u8>> {
        match peek(&buffer) {
            Ok(Some(header))
                if !self.has_begun()
                    && header.frame_bytes() >= frame_bytes_min
                    && header.frame_bytes() > buffer.len() =>
            {
                buffer.shrink_to(header.frame_bytes());
                (self.given, self.header, self.partial) = (false, Some(header), buffer);
                Ok(())
            }
            Ok(_) | Err(_) => Err(buffer),
        }
    }

    /// Bytes that the decoder holds memory for, or has lent out.
    #[must_use]
    pub fn buffered_bytes_max(&self) -> usize {
        self.lent.map_or_else(|| self.partial.capacity(), |lent| lent.capacity_bytes)
    }

    /// How much of the frame that has begun is still to come; `None`: its header is not whole.
    pub(crate) fn missing_bytes(&self) -> Option<usize> {
        if !self.has_begun() {
            return Some(0);
        }
        let begun_bytes = self.lent.map_or_else(|| self.partial.len(), |lent| lent.begun_bytes);
        self.header.map(|header| header.frame_bytes() - begun_bytes)
    }

    /// A frame has begun and is not whole yet.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.lent.is_some() || (!self.given && !self.partial.is_empty())
    }

    /// Goes on with the frame in `partial`.
    fn resume<'b>(&mut self, input: &mut &'b [u8]) -> Result<Option<Found<'b>>, ProtocolError> {
        let header = match self.header {
            Some(header) => header,
            None => {
                self.take(input, HEADER_BYTES);
                let Some(header) = peek(&self.partial)? else {
                    check_magic(&self.partial)?;
                    return Ok(None);
                };
                self.header = Some(header);
                header
            }
        };
        self.take(input, header.frame_bytes());
        if self.partial.len() < header.frame_bytes() {
            return Ok(None);
        }
        self.given = true;
        Ok(Some(Found { header, in_place: None }))
    }

    /// Moves bytes from `input` until `partial` has `total` bytes.
    fn take(&mut self, input: &mut &[u8], total: usize) {
        debug_assert!(total <= FRAME_BYTES_MAX as usize);
        let count = input.len().min(total - self.partial.len());
        let (taken, rest) = input.split_at(count);
        *input = rest;
        let needed = self.partial.len() + count;
        if needed > self.partial.capacity() {
            // Twice what has arrived, but never past the frame's end.
            let capacity = needed.max((needed * 2).min(total));
            self.partial.reserve_exact(capacity - self.partial.len());
        }
        self.partial.extend_from_slice(taken);
    }

    fn restart(&mut self) {
        self.given = false;
        self.header = None;
        self.partial.clear();
        if self.partial.capacity() > DECODER_KEEP_BYTES {
            self.partial.shrink_to(DECODER_KEEP_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CorrelationId;
    use crate::limits::PAYLOAD_BYTES_MAX;
    use crate::message::{ClientMessage, Produce};

    fn produce(payload: &[u8]) -> Vec<u8> {
        let message = ClientMessage::Produce(Produce { topic: 1, partition: 2 });
        let mut frame = message.encode(CorrelationId(3), payload.len() as u32).to_vec();
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn whole_frame_is_given_in_place() {
        let bytes = produce(b"payload");
        let mut decoder = FrameDecoder::default();
        let mut input = &bytes[..];
        let frame = decoder.next(&mut input).unwrap().unwrap();
        assert!(bytes.as_ptr_range().contains(&frame.payload.as_ptr()));
        assert_eq!(frame.payload, b"payload");
        assert!(input.is_empty());
        assert!(decoder.next(&mut input).unwrap().is_none());
        assert_eq!(decoder.buffered_bytes_max(), 0);
    }

    #[test]
    fn announced_bytes_cost_no_memory_before_they_arrive() {
        let bytes = produce(&vec![0; PAYLOAD_BYTES_MAX as usize]);
        let mut decoder = FrameDecoder::default();
        let mut input = &bytes[..100];
        assert!(decoder.next(&mut input).unwrap().is_none());
        assert!(decoder.buffered_bytes_max() <= 200);
        let mut rest = &bytes[100..];
        assert!(decoder.next(&mut rest).unwrap().is_some());
        assert!(decoder.buffered_bytes_max() <= FRAME_BYTES_MAX as usize);
        assert!(decoder.next(&mut rest).unwrap().is_none());
        assert_eq!(decoder.buffered_bytes_max(), 0, "nothing has begun");
    }

    #[test]
    fn a_wrong_first_word_is_refused_before_the_header_is_whole() {
        for pieces in [&[b"GET ".as_slice()][..], &[b"G", b"E", b"T", b" "], &[b"LN", b"CX"]] {
            let mut decoder = FrameDecoder::default();
            let (last, first) = pieces.split_last().unwrap();
            for piece in first {
                assert!(matches!(decoder.next(&mut &piece[..]), Ok(None)));
            }
            let refused = decoder.next(&mut &last[..]);
            assert!(matches!(refused, Err(ProtocolError::Magic { .. })), "{pieces:?}");
        }
        let mut decoder = FrameDecoder::default();
        assert!(matches!(decoder.next(&mut &b"LNCF"[..]), Ok(None)), "and a right one is not");
        assert!(decoder.has_begun());
    }

    #[test]
    fn memory_of_a_gathered_frame_goes_along_with_it() {
        let frame = produce(&[7; 1000]);
        let stream = frame.repeat(3);
        let mut decoder = FrameDecoder::default();
        assert!(decoder.next(&mut &stream[..700]).unwrap().is_none());
        assert_eq!(decoder.take_gathered(), None, "it is not whole");
        let mut input = &stream[700..];
        assert!(decoder.next(&mut input).unwrap().is_some());
        let gathered = decoder.take_gathered().unwrap();
        assert_eq!((&gathered, gathered.capacity()), (&frame, frame.len()));
        assert_eq!(decoder.take_gathered(), None, "it is gone");
        assert!(!decoder.has_begun() && decoder.buffered_bytes_max() == 0);
        for _ in 0..2 {
            assert_eq!(decoder.next(&mut input).unwrap().unwrap().payload, [7; 1000]);
            assert_eq!(decoder.take_gathered(), None, "it lies in the input");
        }
        assert!(decoder.next(&mut input).unwrap().is_none());
    }

    #[test]
    fn lent_memory_grows_with_what_has_come_and_up_to_what_is_known() {
        let frame = produce(&[7; 1000]);
        let lend = |arrived: usize, min: usize, known: usize| {
            let mut decoder = FrameDecoder::default();
            assert!(decoder.next(&mut &frame[..arrived]).unwrap().is_none());
            let lent = decoder.lend(min, known);
            (decoder, lent)
        };
        assert_eq!(lend(20, 0, 0).1, None, "its header is not whole");
        assert_eq!(lend(200, frame.len() + 1, 0).1, None, "it is small");
        assert_eq!(FrameDecoder::default().lend(0, 0), None, "none has begun");
        for (known, capacity) in [(0, 400), (500, 500), (1 << 20, frame.len())] {
            let (mut decoder, lent) = lend(200, frame.len(), known);
            let mut lent = lent.unwrap();
            assert_eq!((&lent[..], lent.capacity()), (&frame[..200], capacity));
            assert_eq!(decoder.buffered_bytes_max(), capacity, "it is held, wherever it is");
            assert!(decoder.has_begun() && decoder.missing_bytes() == Some(frame.len() - 200));
            assert_eq!(decoder.lend(0, 0), None, "it is lent already");
            lent.extend_from_slice(&frame[200..300]);
            assert!(decoder.take_back(lent).is_empty());
            assert!(decoder.next(&mut &b""[..]).unwrap().is_none());
            let mut lent = decoder.lend(0, 0).unwrap();
            lent.extend_from_slice(&frame[300..]);
            lent.extend_from_slice(&frame[..50]);
            assert_eq!(decoder.take_back(lent), &frame[..50], "this is the next one's");
            assert_eq!(decoder.next(&mut &b""[..]).unwrap().unwrap().payload, [7; 1000]);
            assert_eq!(decoder.take_gathered().unwrap(), frame);
            assert_eq!((decoder.has_begun(), decoder.buffered_bytes_max()), (false, 0));
        }
    }

    #[test]
    #[should_panic(expected = "goes on in the memory that was lent")]
    fn bytes_that_pass_by_lent_memory_are_an_error() {
        let frame = produce(&[7; 1000]);
        let mut decoder = FrameDecoder::default();
        assert!(decoder.next(&mut &frame[..200]).unwrap().is_none());
        let _lent = decoder.lend(0, 0).unwrap();
        let _never = decoder.next(&mut &frame[200..]);
    }

    #[test]
    fn only_the_front_of_a_large_frame_is_gathered_where_it_is() {
        let frame = produce(&[7; 1000]);
        let others = [&frame[..20], &frame, &[&frame[..], &frame[..50]].concat(), &b"GET /"[..]];
        let mut decoder = FrameDecoder::default();
        for other in others {
            assert_eq!(decoder.gather_in(other.to_vec(), 0).unwrap_err(), other);
        }
        assert!(decoder.gather_in(frame[..300].to_vec(), frame.len() + 1).is_err(), "it is small");
        let mut roomy = Vec::with_capacity(10 * frame.len());
        roomy.extend_from_slice(&frame[..300]);
        decoder.gather_in(roomy, frame.len()).unwrap();
        assert!(decoder.has_begun() && decoder.buffered_bytes_max() <= frame.len());
        assert!(decoder.gather_in(frame[..300].to_vec(), 0).is_err(), "another has begun");
        assert_eq!(decoder.next(&mut &frame[300..]).unwrap().unwrap().payload, [7; 1000]);
        decoder.gather_in(frame[..300].to_vec(), 0).unwrap();
        assert_eq!(decoder.missing_bytes(), Some(frame.len() - 300), "what was given is done with");
    }

    #[test]
    fn memory_is_kept_between_frames_of_one_piece_and_not_beyond() {
        let frame = produce(&[7; 1000]);
        let mut decoder = FrameDecoder::default();
        let stream = frame.repeat(3);
        let (first, rest) = stream.split_at(500);
        assert!(decoder.next(&mut &first[..]).unwrap().is_none());
        assert!(decoder.has_begun() && decoder.buffered_bytes_max() >= 500);
        let mut input = rest;
        assert!(decoder.next(&mut input).unwrap().is_some());
        assert!(!decoder.has_begun());
        while decoder.next(&mut input).unwrap().is_some() {}
        assert_eq!(decoder.buffered_bytes_max(), 0);
    }
}
