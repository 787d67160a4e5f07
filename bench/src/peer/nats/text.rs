//! The protocol of NATS, which is text: <https://docs.nats.io/reference/reference-protocols/nats-protocol>.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::Error;
use crate::peer::kept::{line, number};

pub(super) const SYSTEM: &str = "nats";

const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\
                       \"name\":\"lanecast-bench\",\"lang\":\"rust\",\"version\":\"1\",\
                       \"protocol\":1,\"headers\":true,\"no_responders\":true}\r\nPING\r\n";

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    Message {
        reply: Option<&'a [u8]>,
        headers: &'a [u8],
        payload: &'a [u8],
    },
    Ping,
    /// INFO, PONG and +OK.
    Other,
}

/// The first thing that is said, and its length. `None`: it is not whole.
pub(super) fn said(bytes: &[u8]) -> Result<Option<(Said<'_>, usize)>, Error> {
    let Some((line, used)) = line(bytes) else { return Ok(None) };
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let verb = words.next().unwrap_or_default();
    let broken = || {
        let detail = String::from_utf8_lossy(line).into_owned();
        Error::Protocol { system: SYSTEM, detail }
    };
    let has_headers = match verb {
        b"MSG" => false,
        b"HMSG" => true,
        b"PING" => return Ok(Some((Said::Ping, used))),
        b"INFO" | b"PONG" | b"+OK" => return Ok(Some((Said::Other, used))),
        b"-ERR" => {
            let detail = String::from_utf8_lossy(line).into_owned();
            return Err(Error::Refused { system: SYSTEM, detail });
        }
        _ => return Err(broken()),
    };
    // Subject, subscription, reply if any, bytes of the headers if any, bytes of all.
    let words: Vec<&[u8]> = words.collect();
    let (rest, [total]) = words.split_last_chunk().ok_or_else(broken)?;
    let (rest, header_bytes) = match rest.split_last() {
        Some((bytes, rest)) if has_headers => (rest, number(bytes).ok_or_else(broken)?),
        _ => (rest, 0),
    };
    let total = number(total).ok_or_else(broken)?;
    let whole = used + total + 2;
    if bytes.len() < whole {
        return Ok(None);
    }
    let (headers, payload) =
        bytes[used..used + total].split_at_checked(header_bytes).ok_or_else(broken)?;
    Ok(Some((Said::Message { reply: rest.get(2).copied(), headers, payload }, whole)))
}

/// A connection on which one thing is asked at a time.
pub(super) struct Talk {
    reader: BufReader<TcpStream>,
}

impl Talk {
    pub(super) fn connect(addr: SocketAddr) -> Result<Self, Error> {
        let failed = || Error::io("talking to NATS");
        let mut socket = super::connect(addr)?;
        socket.write_all(CONNECT.as_bytes()).map_err(failed())?;
        let mut talk = Self { reader: BufReader::with_capacity(1, socket) };
        loop {
            match talk.line()?.as_str() {
                "PONG" => return Ok(talk),
                other if other.starts_with("-ERR") => {
                    return Err(Error::Refused { system: SYSTEM, detail: other.to_owned() });
                }
                _ => {}
            }
        }
    }

    /// Asks JetStream, and gives its answer unless it is an error.
    pub(super) fn ask(&mut self, subject: &str, question: &str) -> Result<String, Error> {
        let failed = || Error::io("asking NATS");
        let bytes = question.len();
        let text = format!(
            "SUB _INBOX.talk.{subject} 1\r\nPUB {subject} _INBOX.talk.{subject} {bytes}\r\n\
             {question}\r\n"
        );
        self.reader.get_mut().write_all(text.as_bytes()).map_err(failed())?;
        loop {
            let line = self.line()?;
            let Some(sizes) = line.strip_prefix("MSG ").or_else(|| line.strip_prefix("HMSG "))
            else {
                continue;
            };
            let bytes = sizes.rsplit(' ').next().and_then(|bytes| bytes.parse::<u64>().ok());
            let mut answer = String::new();
            self.reader
                .by_ref()
                .take(bytes.unwrap_or(0))
                .read_to_string(&mut answer)
                .map_err(failed())?;
            if answer.contains("\"error\"") || !answer.contains("\"type\"") {
                return Err(Error::Refused { system: SYSTEM, detail: answer });
            }
            return Ok(answer);
        }
    }

    /// Nothing may be under way. What comes next belongs to the load: the reader holds no byte of it.
    pub(super) fn into_socket(self) -> TcpStream {
        self.reader.into_inner()
    }

    fn line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).map_err(Error::io("talking to NATS"))?;
        if read == 0 {
            let closed = std::io::ErrorKind::UnexpectedEof.into();
            return Err(Error::io("NATS closed its connection")(closed));
        }
        Ok(line.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_with_and_without_reply_and_headers() {
        let plain = b"MSG a.b 1 5\r\nhello\r\n";
        let message = Said::Message { reply: None, headers: b"", payload: b"hello" };
        assert_eq!(said(plain).unwrap(), Some((message, plain.len())));
        for cut in 0..plain.len() {
            assert_eq!(said(&plain[..cut]).unwrap(), None);
        }
        let asked = b"MSG a.b 1 c.d 0\r\n\r\n";
        let message = Said::Message { reply: Some(b"c.d"), headers: b"", payload: b"" };
        assert_eq!(said(asked).unwrap(), Some((message, asked.len())));
        let status = b"HMSG a 1 c.d 12 12\r\nNATS/1.0 100\r\n";
        let message = Said::Message { reply: Some(b"c.d"), headers: b"NATS/1.0 100", payload: b"" };
        assert_eq!(said(status).unwrap(), Some((message, status.len())));
    }

    #[test]
    fn what_is_no_message_is_told_apart() {
        assert_eq!(said(b"PING\r\n").unwrap(), Some((Said::Ping, 6)));
        assert_eq!(said(b"+OK\r\n").unwrap(), Some((Said::Other, 5)));
        assert!(matches!(said(b"-ERR 'Slow Consumer'\r\n"), Err(Error::Refused { .. })));
        for wrong in [&b"WHAT\r\n"[..], b"MSG a\r\n", b"HMSG a 1 9 2\r\nab\r\n", b"MSG a 1 x\r\n"] {
            assert!(matches!(said(wrong), Err(Error::Protocol { .. })), "{wrong:?}");
        }
    }
}
