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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use glommio::{LocalExecutorBuilder, Placement};
    use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

    use super::*;

    fn on_executor<F: Future<Output = ()> + 'static>(test: impl FnOnce() -> F + Send + 'static) {
        LocalExecutorBuilder::new(Placement::Unbound)
            .preempt_timer(Duration::from_secs(365 * 24 * 3600))
            .spawn(test)
            .unwrap()
            .join()
            .unwrap();
    }

    fn watched() -> (OwnedFd, UnixStream, UnixStream) {
        let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
        let (here, there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        epoll::add(&epoll, &here, EventData::new_u64(7), EventFlags::IN).unwrap();
        (epoll, here, there)
    }

    #[test]
    fn a_parked_executor_wakes_each_time_something_comes() {
        on_executor(|| async {
            let (epoll, mut here, mut there) = watched();
            let mut readiness = Readiness::new();
            let (tell, told) = std::sync::mpsc::channel();
            let writer = std::thread::spawn(move || {
                for byte in told {
                    there.write_all(&[byte]).unwrap();
                }
            });
            for byte in 0..100 {
                tell.send(byte).unwrap();
                // A wait may end for an earlier byte: what counts is that it ends for this one.
                let mut read = [0xff];
                while here.read(&mut read).is_err() {
                    poll_fn(|context| readiness.poll(context, &epoll)).await.unwrap();
                }
                assert_eq!(read, [byte]);
            }
            drop(tell);
            writer.join().unwrap();
        });
    }

    #[test]
    fn waits_leave_no_descriptors_behind() {
        // Other tests open descriptors meanwhile: only those that lead to this set count.
        fn sets() -> usize {
            let leads_there = |entry: &std::fs::DirEntry| {
                let info = format!("/proc/self/fdinfo/{}", entry.file_name().display());
                std::fs::read_to_string(info).is_ok_and(|text| text.contains("5afe5afe"))
            };
            let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().map_while(Result::ok);
            descriptors.filter(leads_there).count()
        }
        on_executor(|| async {
            let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
            let (here, mut there) = UnixStream::pair().unwrap();
            epoll::add(&epoll, &here, EventData::new_u64(0x5afe_5afe), EventFlags::IN).unwrap();
            there.write_all(&[1]).unwrap();
            let mut readiness = Readiness::new();
            for _ in 0..200 {
                poll_fn(|context| readiness.poll(context, &epoll)).await.unwrap();
            }
            let sets = sets();
            assert!((1..=2).contains(&sets), "{sets} descriptors of the set");
        });
    }
}
