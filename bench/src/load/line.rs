//! One connection of the load generator: a socket that never blocks, and what waits to be sent.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::TcpStream;

use bytes::{Buf, Bytes, BytesMut};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use crate::Error;
use crate::limits::{COPIED_BYTES_MAX, WRITE_BUFFERS_MAX};

/// Bytes to be sent, in order. Bulk is kept by reference.
#[derive(Debug, Default)]
pub struct Outgoing {
    ready: VecDeque<Bytes>,
    tail: BytesMut,
}

impl Outgoing {
    /// Small bytes, copied.
    pub fn small(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// A buffer to write small bytes into.
    pub fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Bytes that are copied if they are few, and kept by reference if they are many.
    pub fn body(&mut self, bytes: &Bytes) {
        if bytes.len() <= COPIED_BYTES_MAX {
            self.tail.extend_from_slice(bytes);
        } else {
            self.close_tail();
            self.ready.push_back(bytes.clone());
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.tail.is_empty()
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            let small = self.tail.split().freeze();
            self.ready.push_back(small);
        }
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let front = self.ready.front_mut().expect("no more was sent than there was");
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.ready.pop_front();
        }
    }
}

pub(super) struct Line {
    pub(super) socket: TcpStream,
    pub(super) out: Outgoing,
    /// The socket took no more: it is watched until it does.
    pub(super) blocked: bool,
}

impl Line {
    pub(super) fn new(socket: TcpStream) -> Result<Self, Error> {
        socket.set_nonblocking(true).map_err(Error::io("cannot make a socket non-blocking"))?;
        Ok(Self { socket, out: Outgoing::default(), blocked: false })
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.out.close_tail();
        while !self.blocked && !self.out.ready.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_BUFFERS_MAX];
            let count = self.out.ready.len().min(WRITE_BUFFERS_MAX);
            for (slice, bytes) in slices.iter_mut().zip(&self.out.ready) {
                *slice = IoSlice::new(bytes);
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let mut nothing = SendAncillaryBuffer::default();
            match rustix::net::sendmsg(&self.socket, &slices[..count], &mut nothing, flags) {
                Ok(sent) => self.out.advance(sent),
                Err(Errno::AGAIN) => self.blocked = true,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::io("sending to a system")(errno.into())),
            }
        }
        Ok(())
    }

    /// Receives once. `None`: nothing is there now.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        match rustix::net::recv(&self.socket, buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => {
                let closed = std::io::ErrorKind::UnexpectedEof.into();
                Err(Error::io("a system closed its connection")(closed))
            }
            Ok((_, bytes)) => Ok(Some(bytes)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(Error::io("receiving from a system")(errno.into())),
        }
    }
}
