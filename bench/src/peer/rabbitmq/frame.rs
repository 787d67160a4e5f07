//! Frames of RabbitMQ's stream protocol, version 1, as its `PROTOCOL.adoc` describes them
//! (<https://github.com/rabbitmq/rabbitmq-server/blob/v3.10.x/deps/rabbitmq_stream/docs/PROTOCOL.adoc>).
//! Numbers are big-endian:
//!
//! ```text
//!   u32 bytes that follow   u16 key   u16 version   content
//!
//!   key        what is meant; an answer has bit 15 set
//!   string     u16 bytes, text          bytes      u32 bytes, content
//!   array      u32 elements, elements
//!   answer     u32 of the question, u16 code (1: done), more
//! ```

use crate::Error;

pub(super) const SYSTEM: &str = "rabbitmq";

const VERSION: u16 = 1;
/// Of the size that a frame begins with.
pub(super) const SIZE_BYTES: usize = 4;
const ANSWER: u16 = 0x8000;
const DONE: u16 = 1;

/// What frames mean, as far as a bench has to know.
pub(super) mod key {
    pub(in super::super) const DECLARE_PUBLISHER: u16 = 0x01;
    pub(in super::super) const PUBLISH: u16 = 0x02;
    pub(in super::super) const PUBLISH_CONFIRM: u16 = 0x03;
    pub(in super::super) const PUBLISH_ERROR: u16 = 0x04;
    pub(in super::super) const SUBSCRIBE: u16 = 0x07;
    pub(in super::super) const DELIVER: u16 = 0x08;
    pub(in super::super) const CREDIT: u16 = 0x09;
    pub(in super::super) const CREATE: u16 = 0x0d;
    pub(in super::super) const PEER_PROPERTIES: u16 = 0x11;
    pub(in super::super) const SASL_HANDSHAKE: u16 = 0x12;
    pub(in super::super) const SASL_AUTHENTICATE: u16 = 0x13;
    pub(in super::super) const TUNE: u16 = 0x14;
    pub(in super::super) const OPEN: u16 = 0x15;
    pub(in super::super) const CLOSE: u16 = 0x16;
    pub(in super::super) const HEARTBEAT: u16 = 0x17;
}

/// A frame that came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) key: u16,
    pub(super) content: Fields<'a>,
}

/// The first frame, and its length. `None`: it is not whole.
pub(super) fn frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Error> {
    let Some((size, rest)) = bytes.split_first_chunk::<SIZE_BYTES>() else { return Ok(None) };
    let size = u32::from_be_bytes(*size) as usize;
    let Some(rest) = rest.get(..size) else { return Ok(None) };
    let mut content = Fields(rest);
    let (key, version) = (content.u16()?, content.u16()?);
    if version != VERSION {
        return Err(broken(&format!("a frame {key:#06x} of version {version}")));
    }
    Ok(Some((Frame { key, content }, SIZE_BYTES + size)))
}

impl<'a> Frame<'a> {
    /// Is this the answer to `question`? Gives what follows its code.
    ///
    /// # Errors
    /// It says no; or the server ends the connection and says why.
    pub(super) fn answer_to(mut self, question: u16) -> Result<Option<Fields<'a>>, Error> {
        if self.key == key::CLOSE {
            let (_, code, why) = (self.content.u32()?, self.content.u16()?, self.content.string()?);
            return Err(refused(&format!("closes the connection with {code}: {why}")));
        }
        if self.key != question | ANSWER {
            return Ok(None);
        }
        let (_, code) = (self.content.u32()?, self.content.u16()?);
        match code {
            DONE => Ok(Some(self.content)),
            _ => Err(refused(&format!("answers command {question:#06x} with code {code:#06x}"))),
        }
    }
}

/// What is in a frame, field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (chunk, rest) =
            self.0.split_first_chunk().ok_or_else(|| broken("a frame that ends too soon"))?;
        self.0 = rest;
        Ok(*chunk)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Error> {
        Ok(u8::from_be_bytes(self.chunk()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.chunk()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.chunk()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_be_bytes(self.chunk()?))
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self
            .0
            .split_at_checked(bytes)
            .ok_or_else(|| broken("a field that is longer than its frame"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn string(&mut self) -> Result<String, Error> {
        let bytes = self.u16()?;
        Ok(String::from_utf8_lossy(self.take(usize::from(bytes))?).into_owned())
    }
}

/// A frame that goes out.
pub(super) struct Outgoing(Vec<u8>);

impl Outgoing {
    pub(super) fn new(key: u16) -> Self {
        Self(vec![0; SIZE_BYTES]).u16(key).u16(VERSION)
    }

    /// One that is answered; each is asked when the one before was answered, so that they need no numbers.
    pub(super) fn question(key: u16) -> Self {
        Self::new(key).u32(0)
    }

    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn string(mut self, text: &str) -> Self {
        let bytes = u16::try_from(text.len()).expect("names of a bench are short");
        self = self.u16(bytes);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub(super) fn bytes(mut self, content: &[u8]) -> Self {
        let bytes = u32::try_from(content.len()).expect("what a bench sends is short");
        self = self.u32(bytes);
        self.0.extend_from_slice(content);
        self
    }

    /// The frame, of which `more` bytes follow it.
    pub(super) fn finish(mut self, more: usize) -> Vec<u8> {
        let size = self.0.len() - SIZE_BYTES + more;
        let size = u32::try_from(size).expect("frames are shorter than 4 GiB");
        self.0[..SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
        self.0
    }
}

pub(super) fn broken(detail: &str) -> Error {
    Error::Protocol { system: SYSTEM, detail: detail.to_owned() }
}

pub(super) fn refused(detail: &str) -> Error {
    Error::Refused { system: SYSTEM, detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_when_they_are_whole() {
        let bytes = Outgoing::new(key::CREDIT).u8(3).u16(2).finish(0);
        assert_eq!(bytes, [0, 0, 0, 7, 0, 9, 0, 1, 3, 0, 2]);
        for cut in 0..bytes.len() {
            assert_eq!(frame(&bytes[..cut]).unwrap(), None, "{cut}");
        }
        let more = [&bytes[..], &[0, 0]].concat();
        let (mut credit, used) = frame(&more).unwrap().unwrap();
        assert_eq!((credit.key, used), (key::CREDIT, bytes.len()));
        assert_eq!((credit.content.u8().unwrap(), credit.content.u16().unwrap()), (3, 2));
        assert!(credit.content.u8().is_err(), "nothing is left");
    }

    #[test]
    fn questions_have_strings_and_bytes() {
        let bytes = Outgoing::question(key::SASL_AUTHENTICATE).string("PLAIN").bytes(b"\0a\0b");
        let wanted = b"\0\0\0\x17\0\x13\0\x01\0\0\0\0\0\x05PLAIN\0\0\0\x04\0a\0b";
        assert_eq!(bytes.finish(0), wanted);
    }

    #[test]
    fn frames_of_lies_are_refused() {
        for wrong in [&b"\0\0\0\x02\0\x09"[..], b"\0\0\0\0", b"\0\0\0\x04\0\x09\0\x02"] {
            assert!(matches!(frame(wrong), Err(Error::Protocol { .. })), "{wrong:?}");
        }
        assert!(Fields(b"\0\x05abc").string().is_err());
    }

    #[test]
    fn answers_say_yes_or_no_or_why_it_is_over() {
        let answer = |key: u16, content: &'static [u8]| Frame { key, content: Fields(content) };
        let done = answer(0x800d, b"\0\0\0\0\0\x01rest").answer_to(key::CREATE).unwrap();
        assert_eq!(done, Some(Fields(b"rest")));
        assert_eq!(answer(0x8015, b"\0\0\0\0\0\x01").answer_to(key::CREATE).unwrap(), None);
        let no = answer(0x800d, b"\0\0\0\0\0\x05").answer_to(key::CREATE).unwrap_err().to_string();
        assert!(no.contains("0x000d with code 0x0005"), "{no}");
        let over = answer(key::CLOSE, b"\0\0\0\0\0\x0e\0\x05large").answer_to(key::CREATE);
        assert!(over.unwrap_err().to_string().contains("14: large"));
    }
}
