//! What a broker delivers, looked at and not gathered: the head of each frame and of each batch is, and
//! bodies are passed over wherever a piece of the stream ends. A subscriber of the relay does no more.

use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::frame::{self, Frame, FrameHeader};
use lanecast_wire::message::BrokerMessage;

use super::BatchName;
use crate::Error;

/// What has come to its end.
#[derive(Debug)]
pub(super) enum Seen {
    Batch(BatchName),
    /// All of a frame; its batches were seen before.
    Frame {
        message: BrokerMessage,
        payload_bytes: usize,
    },
}

#[derive(Default)]
pub(super) struct Deliveries {
    /// The front of a head that is not whole yet.
    head: Vec<u8>,
    frame: Option<Open>,
}

/// A frame whose payload is on its way.
struct Open {
    message: BrokerMessage,
    payload_bytes: usize,
    /// Of the payload, from here on.
    left: usize,
    /// The batch that is on its way, and what is still to come of it.
    batch: Option<(BatchName, usize)>,
}

impl Deliveries {
    /// Takes the next piece of the stream.
    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        seen: &mut dyn FnMut(Seen) -> Result<(), Error>,
    ) -> Result<(), Error> {
        loop {
            match &mut self.frame {
                None => {
                    let Some(open) = open(&mut self.head, &mut bytes)? else { return Ok(()) };
                    self.frame = Some(open);
                }
                Some(open) if open.left == 0 && open.batch.is_none() => {
                    let open = self.frame.take().expect("it was just looked at");
                    let Open { message, payload_bytes, .. } = open;
                    seen(Seen::Frame { message, payload_bytes })?;
                }
                Some(open) => match &mut open.batch {
                    Some((name, rest)) => {
                        let (name, count) = (*name, (*rest).min(bytes.len()));
                        bytes = &bytes[count..];
                        *rest -= count;
                        open.left -= count;
                        if *rest > 0 {
                            return Ok(());
                        }
                        open.batch = None;
                        seen(Seen::Batch(name))?;
                    }
                    None => {
                        if !gather(&mut self.head, &mut bytes, batch::HEADER_BYTES) {
                            return Ok(());
                        }
                        open.batch = Some(batch_of(&self.head, open.left)?);
                        open.left -= batch::HEADER_BYTES;
                        self.head.clear();
                    }
                },
            }
        }
    }
}

/// A batch, and what is still to come of it, by its header. All of it is within the payload.
fn batch_of(head: &[u8], left: usize) -> Result<(BatchName, usize), Error> {
    let header = BatchHeader::decode(head).map_err(|error| broken(&error.to_string()))?;
    let bytes = header.batch_bytes();
    if bytes > left {
        return Err(broken("a payload ends within a batch"));
    }
    let publisher = u32::try_from(header.producer.0).unwrap_or(u32::MAX);
    let name = BatchName { publisher, number: header.sequence.0 };
    Ok((name, bytes - batch::HEADER_BYTES))
}

/// A frame's header and control, once they are whole.
fn open(head: &mut Vec<u8>, bytes: &mut &[u8]) -> Result<Option<Open>, Error> {
    if !gather(head, bytes, frame::HEADER_BYTES) {
        return Ok(None);
    }
    let Some(header) = frame::peek(head)? else { return Ok(None) };
    let control = FrameHeader { payload_bytes: 0, ..header };
    if !gather(head, bytes, control.frame_bytes()) {
        return Ok(None);
    }
    // The sum covers header and control alone.
    let message = BrokerMessage::decode(header.kind, Frame::open(control, head)?.control)?;
    head.clear();
    let payload_bytes = header.payload_bytes as usize;
    Ok(Some(Open { message, payload_bytes, left: payload_bytes, batch: None }))
}

/// Moves bytes until `head` has `total` of them; does it?
fn gather(head: &mut Vec<u8>, bytes: &mut &[u8], total: usize) -> bool {
    let count = bytes.len().min(total.saturating_sub(head.len()));
    let (taken, rest) = bytes.split_at(count);
    head.extend_from_slice(taken);
    *bytes = rest;
    head.len() >= total
}

fn broken(detail: &str) -> Error {
    Error::Protocol { system: "lanecast", detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use lanecast_wire::CorrelationId;
    use lanecast_wire::message::{Deliver, Done};

    use super::*;
    use crate::load::Batches;

    fn stream() -> Vec<u8> {
        let batches = Batches::generic(3, 300).unwrap();
        let mut payload = Vec::new();
        for number in 0..2 {
            let mut head = Vec::new();
            batches.head(5, number, &mut head);
            payload.extend_from_slice(&head);
            payload.extend_from_slice(batches.body());
        }
        let deliver = Deliver {
            subscription: 1,
            partition: 0,
            first: 0,
            last: 5,
            high_watermark: 6,
            lease: None,
        };
        let deliver = BrokerMessage::Deliver(deliver);
        let mut bytes = deliver.encode(CorrelationId(0), payload.len() as u32).to_vec();
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(&BrokerMessage::Done(Done {}).encode(CorrelationId(1), 0));
        bytes
    }

    fn seen(pieces: impl Iterator<Item = Vec<u8>>) -> Vec<String> {
        let mut deliveries = Deliveries::default();
        let mut all = Vec::new();
        for piece in pieces {
            let mut each = |seen| {
                all.push(format!("{seen:?}"));
                Ok(())
            };
            deliveries.receive(&piece, &mut each).unwrap();
        }
        all
    }

    #[test]
    fn batches_and_frames_are_seen_in_whatever_pieces_they_come() {
        let stream = stream();
        let whole = seen([stream.clone()].into_iter());
        assert_eq!(whole.len(), 4, "{whole:?}");
        assert!(whole[1].contains("number: 1") && whole[2].contains("Deliver"), "{whole:?}");
        for size in [1, 7, 31, 80, 500] {
            assert_eq!(seen(stream.chunks(size).map(<[u8]>::to_vec)), whole, "pieces of {size}");
        }
    }

    #[test]
    fn a_batch_counts_once_its_last_byte_is_there() {
        let stream = stream();
        let done = BrokerMessage::Done(Done {}).encode(CorrelationId(1), 0).len();
        let most = stream[..stream.len() - done - 1].to_vec();
        assert_eq!(seen([most].into_iter()).len(), 1);
    }

    #[test]
    fn a_broken_stream_is_an_error() {
        let mut stream = stream();
        let at = stream.windows(4).rposition(|word| *word == batch::MAGIC).unwrap();
        stream[at] ^= 1;
        let result = Deliveries::default().receive(&stream, &mut |_| Ok(()));
        assert!(matches!(result, Err(Error::Protocol { .. })), "{result:?}");
    }
}
