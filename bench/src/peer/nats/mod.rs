//! NATS JetStream: one stream on one subject, an acknowledgement per message, a push consumer that
//! acknowledges nothing.

mod protocol;
mod text;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Payload, Peer, Publishing, Safety, Subscribing};
use crate::Error;
use crate::limits::{ANSWER_MAX, SERVER_START_MAX};
use crate::server::{Child, dial};

/// What a server makes of a setting that it does not know.
const TOO_OLD: &str = "to flush each message, which servers do from 2.10 on (sync_interval: always); this one is \
                       older: name the folder of a newer nats-server with --peers";

pub struct Nats {
    child: Child,
    addr: SocketAddr,
}

/// What an acknowledgement of JetStream means.
#[must_use]
pub fn meaning(safety: Safety) -> &'static str {
    match safety {
        Safety::Memory => "in the server's memory (memory storage)",
        Safety::File => "in a file, flushed every 2 minutes (file storage, the default)",
        Safety::Fsync => "flushed (file storage, sync_interval always)",
    }
}

impl Nats {
    /// Starts a server whose data is in `folder`, and makes the stream.
    ///
    /// # Errors
    /// NATS is not installed, does not start, or is too old to flush each message.
    pub fn start(programs: Option<&Path>, folder: &Path, safety: Safety) -> Result<Self, Error> {
        let program = super::program("nats-server", programs)?;
        let addr = super::free_port()?;
        let store = super::text(folder)?;
        let sync = match safety {
            Safety::Memory | Safety::File => "",
            Safety::Fsync => "sync_interval: always\n",
        };
        let config = format!(
            "listen: \"{addr}\"\njetstream {{\nstore_dir: \"{store}\"\nmax_memory_store: 8GB\n\
             max_file_store: 64GB\n{sync}}}\n"
        );
        let file = folder.join("nats.conf");
        std::fs::write(&file, config).map_err(Error::io("writing the configuration of NATS"))?;
        let mut command = Command::new(program);
        command.arg("--config").arg(file);
        let mut child = Child::start("nats", &mut command, &folder.join("nats.log"))?;
        let ready = child.wait_until("ready", SERVER_START_MAX, || TcpStream::connect(addr).ok());
        ready.map_err(|error| match error.to_string().contains("sync_interval") {
            true => Error::Refused { system: text::SYSTEM, detail: TOO_OLD.to_owned() },
            false => error,
        })?;
        let nats = Self { child, addr };
        nats.make_stream(safety)?;
        Ok(nats)
    }

    fn make_stream(&self, safety: Safety) -> Result<(), Error> {
        let storage = match safety {
            Safety::Memory => "memory",
            Safety::File | Safety::Fsync => "file",
        };
        let stream = format!(
            "{{\"name\":\"BENCH\",\"subjects\":[\"bench\"],\"retention\":\"limits\",\
             \"storage\":\"{storage}\",\"num_replicas\":1,\"discard\":\"old\",\
             \"max_bytes\":4000000000,\"max_msgs\":-1,\"max_consumers\":-1}}"
        );
        text::Talk::connect(self.addr)?.ask("$JS.API.STREAM.CREATE.BENCH", &stream)?;
        Ok(())
    }
}

impl Peer for Nats {
    fn publisher(&self, number: u32, records: u32, payload: &Payload) -> Result<Publishing, Error> {
        let inbox = format!("_INBOX.publisher.{number}");
        let mut socket = text::Talk::connect(self.addr)?.into_socket();
        let subscribe = format!("SUB {inbox} 1\r\n");
        socket.write_all(subscribe.as_bytes()).map_err(Error::io("asking NATS"))?;
        Ok((socket, Box::new(protocol::NatsPublisher::new(number, records, payload, &inbox))))
    }

    fn subscriber(&self) -> Result<Subscribing, Error> {
        let inbox = "_INBOX.subscriber";
        let mut socket = text::Talk::connect(self.addr)?.into_socket();
        let subscribe = format!("SUB {inbox} 1\r\n");
        socket.write_all(subscribe.as_bytes()).map_err(Error::io("asking NATS"))?;
        let consumer = format!(
            "{{\"stream_name\":\"BENCH\",\"config\":{{\"deliver_subject\":\"{inbox}\",\
             \"deliver_policy\":\"all\",\"ack_policy\":\"none\",\"flow_control\":true,\
             \"idle_heartbeat\":5000000000,\"replay_policy\":\"instant\"}}}}"
        );
        text::Talk::connect(self.addr)?.ask("$JS.API.CONSUMER.CREATE.BENCH", &consumer)?;
        Ok((socket, Box::new(protocol::NatsSubscriber::default())))
    }

    fn stages(&self) -> Vec<(String, Duration)> {
        self.child.stages("server")
    }

    fn stop(self: Box<Self>) -> Result<(), Error> {
        self.child.stop()
    }
}

/// Connects as every client here does.
fn connect(addr: SocketAddr) -> Result<TcpStream, Error> {
    let socket = dial(addr)?;
    let failed = Error::io(format!("setting up the connection to {addr}"));
    socket.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
    Ok(socket)
}
