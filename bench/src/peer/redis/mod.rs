//! Redis Streams: one stream, an entry per record, XADD pipelined and XREAD one behind the other.

mod protocol;
mod resp;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Payload, Peer, Publishing, Safety, Subscribing};
use crate::Error;
use crate::limits::{ANSWER_MAX, SERVER_START_MAX};
use crate::server::{Child, dial};

pub struct Redis {
    child: Child,
    addr: SocketAddr,
}

/// What an acknowledgement of Redis means.
#[must_use]
pub fn meaning(safety: Safety) -> &'static str {
    match safety {
        Safety::Memory => "in the server's memory (appendonly no)",
        Safety::File => "written, flushed every second (appendfsync everysec)",
        Safety::Fsync => "flushed (appendfsync always)",
    }
}

impl Redis {
    /// Starts a server whose data is in `folder`.
    ///
    /// # Errors
    /// Redis is not installed, or does not start.
    pub fn start(programs: Option<&Path>, folder: &Path, safety: Safety) -> Result<Self, Error> {
        let program = super::program("redis-server", programs)?;
        let addr = super::free_port()?;
        let mut command = Command::new(program);
        command.arg("--bind").arg(addr.ip().to_string());
        command.arg("--port").arg(addr.port().to_string());
        command.args(["--daemonize", "no", "--save", "", "--auto-aof-rewrite-percentage", "0"]);
        command.arg("--dir").arg(folder);
        match safety {
            Safety::Memory => command.args(["--appendonly", "no"]),
            Safety::File => command.args(["--appendonly", "yes", "--appendfsync", "everysec"]),
            Safety::Fsync => command.args(["--appendonly", "yes", "--appendfsync", "always"]),
        };
        let mut child = Child::start("redis", &mut command, &folder.join("redis.log"))?;
        child.wait_until("ready", SERVER_START_MAX, || answers(addr))?;
        Ok(Self { child, addr })
    }
}

/// Does it answer a ping, and not with "loading"?
fn answers(addr: SocketAddr) -> Option<()> {
    let mut socket = TcpStream::connect(addr).ok()?;
    socket.set_read_timeout(Some(ANSWER_MAX)).ok()?;
    socket.write_all(b"PING\r\n").ok()?;
    let mut answer = [0; 7];
    socket.read_exact(&mut answer).ok()?;
    (&answer == b"+PONG\r\n").then_some(())
}

impl Peer for Redis {
    fn publisher(&self, number: u32, records: u32, payload: &Payload) -> Result<Publishing, Error> {
        let publisher = protocol::RedisPublisher::new(number, records, payload);
        Ok((dial(self.addr)?, Box::new(publisher)))
    }

    fn subscriber(&self) -> Result<Subscribing, Error> {
        let mut socket = dial(self.addr)?;
        let subscriber = protocol::RedisSubscriber::default();
        socket.write_all(&subscriber.question()).map_err(Error::io("asking Redis"))?;
        Ok((socket, Box::new(subscriber)))
    }

    fn stages(&self) -> Vec<(String, Duration)> {
        self.child.stages("server")
    }

    fn stop(self: Box<Self>) -> Result<(), Error> {
        self.child.stop()
    }
}
