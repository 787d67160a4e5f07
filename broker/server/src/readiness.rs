//! Waiting, inside glommio, for a descriptor to become readable.
//!
//! glommio has no call for that. But its [`TcpStream`] asks io_uring for readability (POLL_ADD) of
//! the descriptor it is made of as soon as it is made, and wakes the task that polled it; what
//! kind of descriptor that is matters only afterwards, when it tries to receive. So a stream made of
//! a duplicate of the epoll descriptor becomes ready, with an error, when the epoll set is readable.
//! It is then spent, and the next wait makes another one. A wait that is not over is kept: nothing
//! is cancelled.

use std::io;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::io::AsyncRead;
use glommio::net::TcpStream;
use std::os::fd::FromRawFd;

/// At most one pending wait for one descriptor.
pub(crate) struct Readiness {
    pending: Option<TcpStream>,
}

impl Readiness {
    pub(crate) fn new() -> Self {
        Readiness { pending: None }
    }

    /// Ready once `descriptor` is readable, or was at some time since the last call: look, and
    /// call again. `descriptor` must be an epoll set, and always the same.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        descriptor: &OwnedFd,
    ) -> Poll<io::Result<()>> {
        if self.pending.is_none() {
            self.pending = Some(stream_of(descriptor)?);
        }
        let Some(stream) = &mut self.pending else { return Poll::Ready(Ok(())) };
        // Not a socket: the receive that follows readability reads nothing and fails at once.
        let mut nothing = [0];
        match Pin::new(stream).poll_read(context, &mut nothing) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_not_a_socket) => {
                self.pending = None;
                Poll::Ready(Ok(()))
            }
        }
    }
}

fn stream_of(descriptor: &OwnedFd) -> io::Result<TcpStream> {
    let duplicate = descriptor.as_fd().try_clone_to_owned()?;
    // SAFETY: the number was just given up by its owner, so the stream is its only owner and
    // closes it once.
    Ok(unsafe { TcpStream::from_raw_fd(duplicate.into_raw_fd()) })
}
