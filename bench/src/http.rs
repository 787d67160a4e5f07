//! A small blocking HTTP/1.1 client: the same one for everything that is asked over HTTP, so that its
//! own cost is in every figure alike.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Error;
use crate::limits::{ANSWER_BYTES_MAX, HEAD_BYTES_MAX, RECEIVE_BYTES};
use crate::server;

/// One connection, kept open.
pub struct Http {
    system: &'static str,
    addr: SocketAddr,
    stream: TcpStream,
    /// What was received and not used yet.
    received: Vec<u8>,
}

impl Http {
    /// # Errors
    /// Nobody listens there.
    pub fn connect(system: &'static str, addr: SocketAddr) -> Result<Self, Error> {
        Ok(Self { system, addr, stream: server::dial(addr)?, received: Vec::new() })
    }

    /// How long to wait for an answer; without end unless set.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn wait_at_most(&mut self, longest: Duration) -> Result<(), Error> {
        let set = self.stream.set_read_timeout(Some(longest));
        set.map_err(Error::io("setting a timeout"))
    }

    /// The body of the answer to a GET.
    ///
    /// # Errors
    /// No answer, or none of success.
    pub fn get(&mut self, target: &str) -> Result<Vec<u8>, Error> {
        self.head("GET", target, 0)?;
        self.answer()
    }

    /// The body of the answer to a POST of so many bytes.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub fn post(
        &mut self,
        target: &str,
        mut body: impl Read,
        body_bytes: u64,
    ) -> Result<Vec<u8>, Error> {
        self.head("POST", target, body_bytes)?;
        let mut piece = vec![0; RECEIVE_BYTES];
        loop {
            let read = body.read(&mut piece).map_err(Error::io("reading what is sent"))?;
            if read == 0 {
                return self.answer();
            }
            if self.stream.write_all(&piece[..read]).is_err() {
                // It has answered before it read all, and says why.
                return self.answer();
            }
        }
    }

    fn head(&mut self, method: &str, target: &str, body_bytes: u64) -> Result<(), Error> {
        let addr = self.addr;
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {body_bytes}\r\n\r\n"
        );
        self.stream.write_all(head.as_bytes()).map_err(Error::io(format!("asking {}", self.system)))
    }

    fn answer(&mut self) -> Result<Vec<u8>, Error> {
        let head = self.take_through(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let header = |name: &str| {
            let found = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            found.map(str::trim)
        };
        let body = if header("transfer-encoding") == Some("chunked") {
            self.chunks()?
        } else {
            let length = header("content-length").and_then(|length| length.parse().ok());
            let length = length.ok_or_else(|| self.broken("an answer without its length"))?;
            self.take(length)?
        };
        if head.starts_with("http/1.1 200") {
            return Ok(body);
        }
        let status = head.lines().next().unwrap_or_default();
        let detail = format!("{status}: {}", String::from_utf8_lossy(&body).trim());
        Err(Error::Refused { system: self.system, detail })
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        loop {
            let line = self.take_through(b"\r\n")?;
            let size = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(size.trim(), 16);
            let size = size.map_err(|_| self.broken("a chunk without its size"))?;
            let chunk = self.take(size + 2)?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..size]);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(self.broken("an answer too large"));
            }
        }
    }

    /// Takes what is received up to the end of `mark`.
    fn take_through(&mut self, mark: &[u8]) -> Result<Vec<u8>, Error> {
        loop {
            let found = self.received.windows(mark.len()).position(|window| window == mark);
            if let Some(at) = found {
                return self.take(at + mark.len());
            }
            if self.received.len() > HEAD_BYTES_MAX {
                return Err(self.broken("a head too long"));
            }
            self.receive()?;
        }
    }

    fn take(&mut self, bytes: usize) -> Result<Vec<u8>, Error> {
        if bytes > ANSWER_BYTES_MAX {
            return Err(self.broken("an answer too large"));
        }
        while self.received.len() < bytes {
            self.receive()?;
        }
        let rest = self.received.split_off(bytes);
        Ok(std::mem::replace(&mut self.received, rest))
    }

    fn receive(&mut self) -> Result<(), Error> {
        let start = self.received.len();
        self.received.resize(start + RECEIVE_BYTES, 0);
        let read = self.stream.read(&mut self.received[start..]);
        let read = read.map_err(Error::io(format!("waiting for {}", self.system)));
        self.received.truncate(start + *read.as_ref().unwrap_or(&0));
        match read? {
            0 => Err(self.broken("the connection ended")),
            _ => Ok(()),
        }
    }

    fn broken(&self, detail: &str) -> Error {
        Error::Protocol { system: self.system, detail: detail.to_owned() }
    }
}

/// Text as it may stand in a query string.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers each request on one connection with the next of these.
    fn answers(texts: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for text in texts {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                stream.write_all(text.as_bytes()).unwrap();
            }
        });
        addr
    }

    #[test]
    fn answers_of_both_framings_are_read_whole_and_one_after_the_other() {
        let addr = answers(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ncd\r\n1\r\ne\r\n0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone",
        ]);
        let mut http = Http::connect("sham", addr).unwrap();
        assert_eq!(http.get("/").unwrap(), b"ab");
        assert_eq!(http.get("/").unwrap(), b"cde");
        let refused = http.get("/").unwrap_err().to_string();
        assert!(refused.contains("404") && refused.contains("none"), "{refused}");
        assert!(http.get("/").is_err());
    }

    #[test]
    fn sql_survives_a_query_string() {
        assert_eq!(escaped("SELECT 'a'&b\n"), "SELECT%20%27a%27%26b%0A");
    }
}
