//! One client's socket: its outgoing bytes, and where it stands in its life.
//!
//! ```text
//!   Open ──close──▶ Flushing ──all written──▶ Lingering ──peer closed, or time is up──▶ gone
//!     └───────────────── peer closed, error, too much outgoing ───────────────────────▶ gone
//! ```

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use bytes::{Buf, Bytes};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

use crate::limits::{OUTBOUND_BYTES_MAX, PATIENCE_TRIED_EVERY, WRITE_BUFFERS_MAX, WRITES_PER_TURN};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// The core has closed it; what is queued still goes out, until the given time.
    Flushing(Instant),
    /// Shut down; whatever still comes in is dropped, until the given time.
    Lingering(Instant),
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) phase: Phase,
    /// What the core asked for.
    pub(crate) reading: bool,
    /// What to receive at once, in a buffer to be given away. 0: into the hot one.
    pub(crate) expected: usize,
    /// What is received next goes behind this, and then to the core.
    pub(crate) begun: Option<Vec<u8>>,
    /// What epoll was last told.
    pub(crate) interest: EventFlags,
    /// It stands in the line of connections to be written.
    pub(crate) in_line: bool,
    /// Its answers wait for more.
    pub(crate) is_patient: bool,
    /// More came of it when they last did; and how often they might have since.
    patience_pays: bool,
    patience_passed: u32,
    /// The look at the sockets that has last brought something of it.
    pub(crate) heard_in: u64,
    outbound: VecDeque<Bytes>,
    outbound_bytes: u64,
    blocked: bool,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Nothing is left.
    All,
    /// The socket is full: go on when it is writable.
    Blocked,
    /// This turn's share is used up.
    More,
    /// The connection is broken.
    Failed,
}

impl Connection {
    pub(crate) fn new(socket: TcpStream, peer: SocketAddr) -> Self {
        Connection {
            socket,
            peer,
            phase: Phase::Open,
            reading: true,
            expected: 0,
            begun: None,
            interest: EventFlags::IN,
            in_line: false,
            is_patient: false,
            patience_pays: false,
            patience_passed: 0,
            heard_in: 0,
            outbound: VecDeque::new(),
            outbound_bytes: 0,
            blocked: false,
        }
    }

    /// Leaves its executor: nothing stands in a line of that one any more.
    pub(crate) fn travel(&mut self) {
        (self.in_line, self.is_patient, self.heard_in) = (false, false, 0);
    }

    /// What epoll should report.
    pub(crate) fn wanted(&self) -> EventFlags {
        let reads = match self.phase {
            Phase::Open => self.reading,
            Phase::Flushing(_) => false,
            Phase::Lingering(_) => true,
        };
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, reads);
        wanted.set(EventFlags::OUT, self.blocked);
        wanted
    }

    /// Shall answers that may wait for more do so? Not if the peer has only waited for them the last time:
    /// then it is tried again now and then.
    pub(crate) fn tries_patience(&mut self) -> bool {
        self.patience_passed += 1;
        let tries = self.patience_pays || self.patience_passed >= PATIENCE_TRIED_EVERY;
        if tries {
            self.patience_passed = 0;
        }
        tries
    }

    /// Answers have waited for more. Has the peer sent on meanwhile?
    pub(crate) fn has_waited(&mut self, sent_on: bool) {
        self.patience_pays = sent_on;
    }

    pub(crate) fn outbound_bytes(&self) -> u64 {
        self.outbound_bytes
    }

    /// Forgets what is still to be written; gives how much that was.
    pub(crate) fn drop_outbound(&mut self) -> u64 {
        self.outbound = VecDeque::new();
        std::mem::take(&mut self.outbound_bytes)
    }

    /// Appends to the outgoing bytes. False once that is more than any well-kept core would ask.
    #[must_use]
    pub(crate) fn push(&mut self, buffers: Vec<Bytes>) -> bool {
        for buffer in buffers {
            if !buffer.is_empty() {
                self.outbound_bytes += buffer.len() as u64;
                self.outbound.push_back(buffer);
            }
        }
        self.outbound_bytes <= OUTBOUND_BYTES_MAX
    }

    /// The socket can be written again.
    pub(crate) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Writes as much as the socket takes, many buffers to a call. Returns the bytes taken, too.
    pub(crate) fn write(&mut self) -> (u64, Written) {
        let mut taken = 0;
        if self.blocked {
            return (taken, Written::Blocked);
        }
        for _ in 0..WRITES_PER_TURN {
            if self.outbound.is_empty() {
                return (taken, Written::All);
            }
            match self.write_once() {
                Ok(bytes) => {
                    taken += bytes as u64;
                    self.advance(bytes);
                    self.slim();
                }
                Err(Errno::AGAIN) => {
                    self.blocked = true;
                    return (taken, Written::Blocked);
                }
                Err(Errno::INTR) => {}
                Err(_) => return (taken, Written::Failed),
            }
        }
        (taken, if self.outbound.is_empty() { Written::All } else { Written::More })
    }

    fn write_once(&self) -> Result<usize, Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if self.outbound.len() == 1 {
            return rustix::net::send(&self.socket, &self.outbound[0], flags);
        }
        let empty = IoSlice::new(&[]);
        let mut slices = [empty; WRITE_BUFFERS_MAX];
        let count = self.outbound.len().min(WRITE_BUFFERS_MAX);
        for (slice, buffer) in slices.iter_mut().zip(&self.outbound) {
            *slice = IoSlice::new(buffer);
        }
        let mut no_control = SendAncillaryBuffer::default();
        rustix::net::sendmsg(&self.socket, &slices[..count], &mut no_control, flags)
    }

    /// A connection that has nothing to send holds no memory for it.
    fn slim(&mut self) {
        if self.outbound.is_empty() && self.outbound.capacity() > WRITE_BUFFERS_MAX {
            self.outbound = VecDeque::new();
        }
    }

    fn advance(&mut self, mut bytes: usize) {
        self.outbound_bytes -= bytes as u64;
        while bytes > 0 {
            let front = self.outbound.front_mut().expect("no more was taken than was queued");
            if front.len() > bytes {
                front.advance(bytes);
                return;
            }
            bytes -= front.len();
            self.outbound.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, addr) = listener.accept().unwrap();
        (Connection::new(socket, addr), peer)
    }

    #[test]
    fn many_buffers_arrive_as_one_stream_through_full_sockets() {
        let (mut connection, mut peer) = pair();
        let mut expected = Vec::new();
        for number in 0..3000_u32 {
            let size = (number % 977) as usize * 11;
            let buffer = vec![number as u8; size];
            expected.extend_from_slice(&buffer);
            assert!(connection.push(vec![Bytes::from(buffer)]));
        }
        assert_eq!(connection.outbound_bytes(), expected.len() as u64);
        let total = expected.len();
        let reader = std::thread::spawn(move || {
            let mut received = vec![0; total];
            peer.read_exact(&mut received).unwrap();
            received
        });
        let mut taken = 0;
        loop {
            let (bytes, written) = connection.write();
            taken += bytes;
            match written {
                Written::All => break,
                Written::Blocked => {
                    assert!(connection.wanted().contains(EventFlags::OUT));
                    connection.unblock();
                    std::thread::yield_now();
                }
                Written::More => {}
                Written::Failed => panic!("the peer reads on"),
            }
        }
        assert_eq!(taken as usize, total);
        assert_eq!(connection.outbound_bytes(), 0);
        assert!(reader.join().unwrap() == expected);
    }

    #[test]
    fn a_broken_connection_fails_and_does_not_signal() {
        let (mut connection, peer) = pair();
        drop(peer);
        loop {
            assert!(connection.push(vec![Bytes::from_static(&[0; 4096])]));
            if connection.write().1 == Written::Failed {
                break;
            }
        }
    }
}
