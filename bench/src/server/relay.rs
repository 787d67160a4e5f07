//! The bare relay: one thread that receives and sends, and looks at nothing. No broker between a
//! producer and its subscribers can be faster on one core.
//!
//! The first connection is the producer's, the others are subscribers'. Whatever comes from the producer
//! is sent to each subscriber at once, while it is in the cache. The loop never sleeps.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::bare::{BareServer, Shared, TURNS_PER_CHECK};
use crate::Error;
use crate::limits::RECEIVE_BYTES;

pub struct Relay(BareServer);

impl Relay {
    /// Listens, on `core`, for one producer and then `subscribers` subscribers.
    ///
    /// # Errors
    /// The system has no socket or thread left.
    pub fn start(core: usize, subscribers: usize) -> Result<Self, Error> {
        let serve = |sockets: Vec<TcpStream>, shared: &Shared| match sockets.split_first() {
            Some((producer, subscribers)) => relay(producer, subscribers, shared),
            None => Ok(()),
        };
        BareServer::start("relay", core, 1 + subscribers, serve).map(Self)
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.0.addr()
    }

    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.0.cpu()
    }
}

fn relay(producer: &TcpStream, subscribers: &[TcpStream], shared: &Shared) -> Result<(), Errno> {
    let mut buffer = vec![0; RECEIVE_BYTES];
    while !shared.is_stopped() {
        for _ in 0..TURNS_PER_CHECK {
            match rustix::net::recv(producer, &mut buffer[..], RecvFlags::DONTWAIT) {
                // A client that goes ends the run.
                Ok((_, 0)) => return Ok(()),
                Ok((_, bytes)) => {
                    for subscriber in subscribers {
                        send_all(subscriber, &buffer[..bytes], shared)?;
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => std::hint::spin_loop(),
                Err(errno) => return Err(errno),
            }
        }
        shared.tell_cpu();
    }
    Ok(())
}

fn send_all(socket: &TcpStream, mut bytes: &[u8], shared: &Shared) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN) if shared.is_stopped() => return Ok(()),
            Err(Errno::AGAIN | Errno::INTR) => std::hint::spin_loop(),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::cpu;

    #[test]
    fn what_the_producer_sends_comes_to_every_subscriber() {
        let relay = Relay::start(cpu::cores()[0], 2).unwrap();
        let [mut producer, first, second] =
            [0; 3].map(|_| TcpStream::connect(relay.addr()).unwrap());
        producer.write_all(b"samples").unwrap();
        for mut subscriber in [first, second] {
            let mut received = [0; 7];
            subscriber.read_exact(&mut received).unwrap();
            assert_eq!(&received, b"samples");
        }
    }

    #[test]
    fn it_ends_even_if_only_its_producer_ever_comes() {
        let relay = Relay::start(cpu::cores()[0], 3).unwrap();
        let _producer = TcpStream::connect(relay.addr()).unwrap();
        drop(relay);
    }
}
