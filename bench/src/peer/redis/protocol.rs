//! Both ends of a stream.

use super::resp::{SYSTEM, Token, token};
use crate::Error;
use crate::load::{BatchName, Outgoing, Publisher, Subscriber};
use crate::peer::kept::Kept;
use crate::peer::repeated::Acknowledged;
use crate::peer::{Payload, Repeated};

/// Entries that one XREAD asks for at most.
const READ_COUNT: u32 = 1000;

/// One XADD per record.
pub(super) struct RedisPublisher {
    batches: Repeated,
    kept: Kept,
    acknowledged: Acknowledged,
}

impl RedisPublisher {
    pub(super) fn new(number: u32, records: u32, payload: &Payload) -> Self {
        let bytes = payload.bytes().len();
        let before =
            format!("*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$1\r\nd\r\n${bytes}\r\n");
        let batches = Repeated::new(number, records, before.as_bytes(), payload, b"\r\n");
        Self { batches, kept: Kept::default(), acknowledged: Acknowledged::new(records) }
    }
}

impl Publisher for RedisPublisher {
    fn publish(&mut self, out: &mut Outgoing) {
        self.batches.publish(out);
    }

    fn receive(&mut self, bytes: &[u8], _out: &mut Outgoing) -> Result<u32, Error> {
        let mut records = 0;
        self.kept.each(bytes, |bytes| {
            let Some((_, used)) = token(bytes)? else { return Ok(None) };
            records += 1;
            Ok(Some(used))
        })?;
        Ok(self.acknowledged.add(records))
    }
}

/// Pieces of an answer to XREAD before its entries: streams, name and entries of the one, its name, how
/// many entries. Of each entry: id and fields of it, the id, how many strings, the field, its value.
const HEAD: usize = 4;
const OF_ENTRY: usize = 5;

#[derive(Default)]
pub(super) struct RedisSubscriber {
    kept: Kept,
    at: usize,
    entries: usize,
    last_id: Vec<u8>,
}

impl RedisSubscriber {
    /// Asks for what follows the last entry, and waits until there is something.
    pub(super) fn question(&self) -> Vec<u8> {
        let id = if self.last_id.is_empty() { b"0-0" } else { &self.last_id[..] };
        let mut question =
            format!("*8\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n$4\r\n{READ_COUNT}\r\n").into_bytes();
        question.extend_from_slice(b"$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n$5\r\nbench\r\n");
        question.extend_from_slice(format!("${}\r\n", id.len()).as_bytes());
        question.extend_from_slice(id);
        question.extend_from_slice(b"\r\n");
        question
    }

    fn take(
        &mut self,
        token: &Token<'_>,
        delivered: &mut dyn FnMut(BatchName),
    ) -> Result<(), Error> {
        let at = self.at;
        self.at += 1;
        match (at.checked_sub(HEAD).map(|of_entries| of_entries % OF_ENTRY), token) {
            (None, Token::Array(elements)) if at == HEAD - 1 => self.entries = *elements,
            (None, Token::Array(_) | Token::Bulk(_)) | (Some(0 | 2), Token::Array(2)) => {}
            (Some(1), Token::Bulk(id)) => {
                self.last_id.clear();
                self.last_id.extend_from_slice(id);
            }
            (Some(3), Token::Bulk(_)) => {}
            (Some(4), Token::Bulk(payload)) => {
                if let Some(name) = Payload::ends(payload) {
                    delivered(name);
                }
            }
            (_, Token::Array(_) | Token::Bulk(_) | Token::Other) => {
                let detail = "answered XREAD in another form".to_owned();
                return Err(Error::Protocol { system: SYSTEM, detail });
            }
        }
        Ok(())
    }

    fn is_at_end(&self) -> bool {
        self.at >= HEAD && self.at == HEAD + self.entries * OF_ENTRY
    }
}

impl Subscriber for RedisSubscriber {
    fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Outgoing,
        delivered: &mut dyn FnMut(BatchName),
    ) -> Result<(), Error> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.each(bytes, |bytes| {
            let Some((token, used)) = token(bytes)? else { return Ok(None) };
            self.take(&token, delivered)?;
            if self.is_at_end() {
                self.at = 0;
                out.small(&self.question());
            }
            Ok(Some(used))
        })?;
        self.kept = kept;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_acknowledged_with_the_last_of_its_records() {
        let payload = Payload::new(128).unwrap();
        let mut publisher = RedisPublisher::new(0, 2, &payload);
        let mut out = Outgoing::default();
        publisher.publish(&mut out);
        assert!(!out.is_empty());
        let answers = b"$3\r\n1-0\r\n$3\r\n1-1\r\n";
        assert_eq!(publisher.receive(&answers[..9], &mut out).unwrap(), 0);
        assert_eq!(publisher.receive(&answers[9..12], &mut out).unwrap(), 0);
        assert_eq!(publisher.receive(&answers[12..], &mut out).unwrap(), 1);
    }

    #[test]
    fn entries_are_read_and_the_next_ones_asked_for() {
        let entry = |id: &str, payload: &[u8]| {
            let head = format!("*2\r\n$3\r\n{id}\r\n*2\r\n$1\r\nd\r\n${}\r\n", payload.len());
            [head.as_bytes(), payload, b"\r\n"].concat()
        };
        let payload = Payload::new(128).unwrap();
        let answer = [
            &b"*1\r\n*2\r\n$5\r\nbench\r\n*2\r\n"[..],
            &entry("1-0", payload.bytes()),
            &entry("1-1", &Payload::name(3, 4)),
        ]
        .concat();
        for piece in [1, 7, answer.len()] {
            let mut subscriber = RedisSubscriber::default();
            let (mut out, mut names) = (Outgoing::default(), Vec::new());
            for bytes in answer.chunks(piece) {
                assert!(out.is_empty());
                subscriber.receive(bytes, &mut out, &mut |name| names.push(name)).unwrap();
            }
            assert_eq!(names, [BatchName { publisher: 3, number: 4 }]);
            assert!(out.tail().ends_with(b"$3\r\n1-1\r\n"));
        }
    }
}
