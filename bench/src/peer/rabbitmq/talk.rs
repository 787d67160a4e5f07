//! A connection on which one thing is asked at a time: how each one begins.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::frame::{Frame, Outgoing, SIZE_BYTES, broken, frame, key};
use crate::Error;
use crate::limits::{ANSWER_MAX, RABBITMQ_FRAME_BYTES_MAX};
use crate::server::dial;

/// RFC 4616: whom to act for (nobody else), who, and the password. RabbitMQ makes this user itself, for
/// loopback only.
const PLAIN: &[u8] = b"\0guest\0guest";

pub(super) struct Talk {
    socket: TcpStream,
}

impl Talk {
    /// Connects and signs in.
    pub(super) fn connect(addr: SocketAddr) -> Result<Self, Error> {
        let socket = dial(addr)?;
        let failed = Error::io(format!("setting up the connection to {addr}"));
        socket.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
        let mut talk = Self { socket };
        let properties = Outgoing::question(key::PEER_PROPERTIES);
        talk.ask(key::PEER_PROPERTIES, properties.u32(1).string("product").string("lanecast"))?;
        talk.ask(key::SASL_HANDSHAKE, Outgoing::question(key::SASL_HANDSHAKE))?;
        let words = Outgoing::question(key::SASL_AUTHENTICATE).string("PLAIN").bytes(PLAIN);
        talk.ask(key::SASL_AUTHENTICATE, words)?;
        talk.tune()?;
        talk.ask(key::OPEN, Outgoing::question(key::OPEN).string("/"))?;
        Ok(talk)
    }

    /// The server proposes; heartbeats are declined, since a run is short and the load has no time for them.
    fn tune(&mut self) -> Result<(), Error> {
        let frame_bytes_max = loop {
            let bytes = self.receive()?;
            let Frame { key, mut content } = whole(&bytes)?;
            if key == key::TUNE {
                break content.u32()?;
            }
        };
        self.send(Outgoing::new(key::TUNE).u32(frame_bytes_max).u32(0))
    }

    /// Waits until it is done.
    pub(super) fn ask(&mut self, question: u16, words: Outgoing) -> Result<(), Error> {
        self.send(words)?;
        loop {
            let bytes = self.receive()?;
            if whole(&bytes)?.answer_to(question)?.is_some() {
                return Ok(());
            }
        }
    }

    pub(super) fn send(&mut self, words: Outgoing) -> Result<(), Error> {
        self.socket.write_all(&words.finish(0)).map_err(Error::io("talking to RabbitMQ"))
    }

    /// One frame, and no byte of the next.
    fn receive(&mut self) -> Result<Vec<u8>, Error> {
        let failed = || Error::io("listening to RabbitMQ");
        let mut bytes = vec![0; SIZE_BYTES];
        self.socket.read_exact(&mut bytes).map_err(failed())?;
        let size = bytes.iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
        if size > RABBITMQ_FRAME_BYTES_MAX {
            return Err(broken(&format!("an answer of {size} bytes")));
        }
        bytes.resize(SIZE_BYTES + size, 0);
        self.socket.read_exact(&mut bytes[SIZE_BYTES..]).map_err(failed())?;
        Ok(bytes)
    }

    /// Nothing may be asked any more: what comes next belongs to the load.
    pub(super) fn into_socket(self) -> TcpStream {
        self.socket
    }
}

fn whole(bytes: &[u8]) -> Result<Frame<'_>, Error> {
    let (frame, _) = frame(bytes)?.ok_or_else(|| broken("a frame that is not whole"))?;
    Ok(frame)
}
