//! Both ends of a stream.
//!
//! A chunk is delivered as it lies in the log (<https://github.com/rabbitmq/osiris>, `osiris_log.erl`):
//!
//! ```text
//!   u8 magic, 0x50: version 0   u8 type, 0: records   u16 entries   u32 records   i64 time
//!   u64 epoch   u64 first offset   u32 crc   u32 bytes of entries   u32 of what follows them   u32 none
//!   entries, each: u32 bytes (bit 31: entries within an entry), content
//! ```

use super::frame::{Fields, Frame, Outgoing as Words, broken, frame, key, refused};
use crate::Error;
use crate::limits::RABBITMQ_FRAME_BYTES_MAX;
use crate::load::{BatchName, Outgoing, Publisher, Subscriber};
use crate::peer::kept::Kept;
use crate::peer::repeated::Acknowledged;
use crate::peer::{Payload, Repeated};

/// Each connection has one publisher or one subscription.
pub(super) const ID: u8 = 0;

/// Chunks that the server sends ahead: what its own clients ask for when they are to be fast.
pub(super) const CREDIT: u16 = 10;

/// Records that a connection may have without a confirmation: RabbitMQ's own clients stop there.
const UNCONFIRMED_MAX: u32 = 10_000;

const CHUNK_MAGIC: u8 = 0x50;
const CHUNK_OF_RECORDS: u8 = 0;
const ENTRY_OF_ENTRIES: u32 = 1 << 31;

/// A publish frame per batch. Records have no numbers of their own (all are 0): a confirmation is counted,
/// and without a publisher's name the server does not look for repetitions.
pub(super) struct RabbitPublisher {
    head: Vec<u8>,
    batches: Repeated,
    records: u32,
    kept: Kept,
    acknowledged: Acknowledged,
}

impl RabbitPublisher {
    pub(super) fn new(number: u32, records: u32, payload: &Payload) -> Result<Self, Error> {
        let bytes = payload.bytes().len();
        let size = u32::try_from(bytes).map_err(|_| broken("a record that is too long"))?;
        let before = [&[0; 8][..], &size.to_be_bytes()].concat();
        let all_bytes = (before.len() + bytes) * records as usize;
        let head = Words::new(key::PUBLISH).u8(ID).u32(records).finish(all_bytes);
        if head.len() + all_bytes > RABBITMQ_FRAME_BYTES_MAX {
            let detail = format!("{records} records of {bytes} bytes are more than a frame takes");
            return Err(Error::Usage(detail));
        }
        let batches = Repeated::new(number, records, &before, payload, b"");
        let (kept, acknowledged) = (Kept::default(), Acknowledged::new(records));
        Ok(Self { head, batches, records, kept, acknowledged })
    }
}

impl Publisher for RabbitPublisher {
    fn publish(&mut self, out: &mut Outgoing) {
        out.small(&self.head);
        self.batches.publish(out);
    }

    fn receive(&mut self, bytes: &[u8], _out: &mut Outgoing) -> Result<u32, Error> {
        let mut records = 0;
        self.kept.each(bytes, |bytes| {
            let Some((mut frame, used)) = frame(bytes)? else { return Ok(None) };
            match frame.key {
                key::PUBLISH_CONFIRM => {
                    frame.content.u8()?;
                    records += frame.content.u32()?;
                }
                key::PUBLISH_ERROR => return Err(not_stored(&mut frame.content)?),
                _ => other(frame)?,
            }
            Ok(Some(used))
        })?;
        Ok(self.acknowledged.add(records))
    }

    fn window(&self) -> u32 {
        (UNCONFIRMED_MAX / self.records).max(1)
    }
}

/// Why records were not taken.
fn not_stored(content: &mut Fields<'_>) -> Result<Error, Error> {
    content.u8()?;
    let count = content.u32()?;
    content.u64()?;
    let code = content.u16()?;
    Ok(refused(&format!("did not store {count} records, the first with code {code:#06x}")))
}

#[derive(Default)]
pub(super) struct RabbitSubscriber {
    kept: Kept,
}

impl Subscriber for RabbitSubscriber {
    fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Outgoing,
        delivered: &mut dyn FnMut(BatchName),
    ) -> Result<(), Error> {
        self.kept.each(bytes, |bytes| {
            let Some((mut frame, used)) = frame(bytes)? else { return Ok(None) };
            match frame.key {
                key::DELIVER => {
                    frame.content.u8()?;
                    chunk(frame.content, delivered)?;
                    // Room for another one.
                    out.small(&Words::new(key::CREDIT).u8(ID).u16(1).finish(0));
                }
                _ => other(frame)?,
            }
            Ok(Some(used))
        })
    }
}

/// What neither end waits for: a heartbeat, and the answer to what was asked last.
fn other(frame: Frame<'_>) -> Result<(), Error> {
    let key = frame.key;
    if key == key::HEARTBEAT || frame.answer_to(key::SUBSCRIBE)?.is_some() {
        return Ok(());
    }
    Err(broken(&format!("a frame {key:#06x} that nobody asked for")))
}

fn chunk(mut fields: Fields<'_>, delivered: &mut dyn FnMut(BatchName)) -> Result<(), Error> {
    let (magic, kind, entries) = (fields.u8()?, fields.u8()?, fields.u16()?);
    if magic != CHUNK_MAGIC {
        return Err(broken(&format!("a chunk that begins with {magic:#04x}")));
    }
    if kind != CHUNK_OF_RECORDS {
        return Ok(());
    }
    // Records, time, epoch, first offset, checksum, and what sizes and entries say anyhow.
    let (_, _, _, _) = (fields.u32()?, fields.u64()?, fields.u64()?, fields.u64()?);
    let (_, _, _, _) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
    for _ in 0..entries {
        let bytes = fields.u32()?;
        if bytes & ENTRY_OF_ENTRIES != 0 {
            return Err(broken("an entry of entries, which nobody published"));
        }
        if let Some(name) = Payload::ends(fields.take(bytes as usize)?) {
            delivered(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_a_frame_and_confirmed_with_the_last_of_its_records() {
        let payload = Payload::new(128).unwrap();
        let record = payload.bytes().len();
        let mut publisher = RabbitPublisher::new(0, 2, &payload).unwrap();
        let mut out = Outgoing::default();
        publisher.publish(&mut out);
        let sent = out.tail().to_vec();
        let (Frame { key, mut content }, used) = frame(&sent).unwrap().unwrap();
        assert_eq!((key, used), (key::PUBLISH, sent.len()));
        assert_eq!((content.u8().unwrap(), content.u32().unwrap()), (ID, 2));
        let mut records = Vec::new();
        for _ in 0..2 {
            assert_eq!(content.u64().unwrap(), 0);
            let bytes = content.u32().unwrap() as usize;
            records.push(Payload::ends(content.take(bytes).unwrap()));
            assert_eq!(bytes, record);
        }
        assert_eq!(records, [None, Some(BatchName { publisher: 0, number: 0 })]);
        assert_eq!(content, Fields(b""));
        let confirmed = b"\0\0\0\x11\0\x03\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0\0";
        assert_eq!(publisher.receive(confirmed, &mut out).unwrap(), 0);
        assert_eq!(publisher.receive(confirmed, &mut out).unwrap(), 1);
        let error = b"\0\0\0\x13\0\x04\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\x06";
        let error = publisher.receive(error, &mut out).unwrap_err().to_string();
        assert!(error.contains("did not store 1 records") && error.contains("0x0006"), "{error}");
    }

    #[test]
    fn a_frame_has_an_end() {
        let payload = Payload::new(1024).unwrap();
        let refused = RabbitPublisher::new(0, 2000, &payload).map(|_| ()).unwrap_err();
        assert!(matches!(refused, Error::Usage(_)), "{refused:?}");
    }

    /// A chunk of these entries, in its frame.
    fn delivery(kind: u8, entries: &[&[u8]]) -> Vec<u8> {
        let count = u16::try_from(entries.len()).unwrap();
        let mut words = Words::new(key::DELIVER).u8(ID).u8(CHUNK_MAGIC).u8(kind).u16(count);
        for _ in 0..11 {
            words = words.u32(7);
        }
        entries.iter().fold(words, |words, entry| words.bytes(entry)).finish(0)
    }

    #[test]
    fn chunks_name_batches_and_each_gives_credit_for_the_next() {
        let names = [(1, 2), (3, 4)].map(|(publisher, number)| Payload::name(publisher, number));
        let noise = Payload::new(128).unwrap();
        let deliveries = [
            &b"\0\0\0\x0a\x80\x07\0\x01\0\0\0\0\0\x01"[..],
            &delivery(CHUNK_OF_RECORDS, &[noise.bytes(), &names[0]]),
            b"\0\0\0\x04\0\x17\0\x01",
            &delivery(1, &[&names[0]]),
            &delivery(CHUNK_OF_RECORDS, &[&names[1]]),
        ]
        .concat();
        for piece in [1, 7, deliveries.len()] {
            let mut subscriber = RabbitSubscriber::default();
            let (mut out, mut found) = (Outgoing::default(), Vec::new());
            for bytes in deliveries.chunks(piece) {
                subscriber.receive(bytes, &mut out, &mut |name| found.push(name)).unwrap();
            }
            let wanted =
                [(1, 2), (3, 4)].map(|(publisher, number)| BatchName { publisher, number });
            assert_eq!(found, wanted);
            assert_eq!(out.tail()[..], [0, 0, 0, 7, 0, 9, 0, 1, 0, 0, 1].repeat(3));
        }
    }

    #[test]
    fn what_nobody_asked_for_is_told() {
        let receive = |bytes: &[u8]| {
            let mut subscriber = RabbitSubscriber::default();
            let told = subscriber.receive(bytes, &mut Outgoing::default(), &mut |_| ());
            told.unwrap_err().to_string()
        };
        assert!(receive(b"\0\0\0\x04\0\x10\0\x01").contains("0x0010"));
        assert!(receive(b"\0\0\0\x0a\x80\x07\0\x01\0\0\0\0\0\x02").contains("code 0x0002"));
        let mut wrong = delivery(CHUNK_OF_RECORDS, &[b"x"]);
        wrong[9] = 0x51;
        assert!(receive(&wrong).contains("0x51"));
        let mut nested = delivery(CHUNK_OF_RECORDS, &[b"x"]);
        let at = nested.len() - 5;
        nested[at] |= 0x80;
        assert!(receive(&nested).contains("entry of entries"));
    }
}
