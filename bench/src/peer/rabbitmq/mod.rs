//! RabbitMQ streams over their own protocol: one stream, a frame per batch, a subscription from the first
//! record on.
//!
//! The server is the program of its package, in the foreground and as the user who runs the bench, with a
//! node name, ports and files of its own, so that it meddles with no other one of the machine; the same
//! goes for epmd, which Erlang asks for ports: it is started here and ends with the server.

mod frame;
mod protocol;
mod talk;

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Payload, Peer, Publishing, Safety, Subscribing};
use crate::Error;
use crate::limits::SERVER_START_MAX;
use crate::server::Child;
use frame::{Outgoing, key};
use talk::Talk;

const STREAM: &str = "bench";

/// Oldest records go when there are more.
const STREAM_BYTES_MAX: &str = "4000000000";

/// From the first record on.
const OFFSET_FIRST: u16 = 1;

/// Debian's and RabbitMQ's own packages have the program itself there; what is in `PATH` becomes another
/// user first, who cannot write into a folder of ours.
const PROGRAM_ITSELF: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

pub struct RabbitMq {
    // Stopped in this order.
    server: Child,
    epmd: Child,
    addr: SocketAddr,
}

/// What an acknowledgement of a stream means; `None` where it cannot promise that much.
#[must_use]
pub fn meaning(safety: Safety) -> Option<&'static str> {
    match safety {
        Safety::Memory | Safety::File => {
            Some("in the page cache, flushed when the kernel likes (streams have no other way)")
        }
        Safety::Fsync => None,
    }
}

impl RabbitMq {
    /// Starts a server whose data is in `folder`, and makes the stream.
    ///
    /// # Errors
    /// RabbitMQ is not installed, or does not start.
    pub fn start(programs: Option<&Path>, folder: &Path) -> Result<Self, Error> {
        let (program, epmd) = (program(programs)?, super::program("epmd", programs)?);
        let [addr, nodes, names] = super::free_ports()?;
        let mut command = Command::new(epmd);
        command.args(["-address", "127.0.0.1", "-port", &names.port().to_string()]);
        let mut epmd = Child::start("epmd", &mut command, &folder.join("epmd.log"))?;
        epmd.wait_until("ready", SERVER_START_MAX, || TcpStream::connect(names).ok())?;
        let mut command = command_in(folder, &program, addr)?;
        command.env("RABBITMQ_DIST_PORT", nodes.port().to_string());
        command.env("ERL_EPMD_ADDRESS", "127.0.0.1").env("ERL_EPMD_PORT", names.port().to_string());
        let log = folder.join("rabbitmq.log");
        let mut server = Child::start("rabbitmq", &mut command, &log)?;
        // It listens before it knows its users.
        let started = || Talk::connect(TcpStream::connect(addr).ok()?.peer_addr().ok()?).ok();
        let mut talk = server.wait_until("ready", SERVER_START_MAX, started)?;
        let stream = Outgoing::question(key::CREATE).string(STREAM).u32(1);
        talk.ask(key::CREATE, stream.string("max-length-bytes").string(STREAM_BYTES_MAX))?;
        Ok(Self { server, epmd, addr })
    }
}

/// What was given, or the program itself where a package has it, or what is installed elsewhere.
fn program(programs: Option<&Path>) -> Result<PathBuf, Error> {
    let given = programs.map(|folder| folder.join("rabbitmq-server"));
    let known = given.into_iter().chain([PathBuf::from(PROGRAM_ITSELF)]);
    match known.into_iter().find(|file| file.is_file()) {
        Some(file) => Ok(file),
        None => super::program("rabbitmq-server", None),
    }
}

/// All settings are its environment and files in `folder`: none of the machine's are read.
fn command_in(folder: &Path, program: &Path, addr: SocketAddr) -> Result<Command, Error> {
    let write = |name: &str, content: String| {
        let file = folder.join(name);
        std::fs::write(&file, content).map_err(Error::io("writing the files of RabbitMQ"))?;
        Ok::<PathBuf, Error>(file)
    };
    let config = format!("listeners.tcp = none\nstream.listeners.tcp.1 = {addr}\n");
    let mut command = Command::new(program);
    command.current_dir(folder).env("HOME", folder).env("RABBITMQ_NODENAME", "bench@localhost");
    command.env("RABBITMQ_CONFIG_FILE", write("rabbitmq.conf", config)?);
    command.env("RABBITMQ_CONF_ENV_FILE", write("rabbitmq-env.conf", String::new())?);
    let plugins = write("enabled_plugins", "[rabbitmq_stream].\n".to_owned())?;
    command.env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins);
    for (setting, name) in [
        ("RABBITMQ_MNESIA_BASE", "data"),
        ("RABBITMQ_LOG_BASE", "log"),
        ("RABBITMQ_GENERATED_CONFIG_DIR", "generated"),
        ("RABBITMQ_PID_FILE", "pid"),
    ] {
        command.env(setting, folder.join(name));
    }
    // It prints its log, and is the process that was started, not one behind a shell.
    command.env("RABBITMQ_LOGS", "-").env("RUNNING_UNDER_SYSTEMD", "true");
    let loopback = "-kernel inet_dist_use_interface {127,0,0,1}";
    command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback);
    Ok(command)
}

impl Peer for RabbitMq {
    fn publisher(&self, number: u32, records: u32, payload: &Payload) -> Result<Publishing, Error> {
        let publisher = protocol::RabbitPublisher::new(number, records, payload)?;
        let mut talk = Talk::connect(self.addr)?;
        // Without a name.
        let declared = Outgoing::question(key::DECLARE_PUBLISHER).u8(protocol::ID).string("");
        talk.ask(key::DECLARE_PUBLISHER, declared.string(STREAM))?;
        Ok((talk.into_socket(), Box::new(publisher)))
    }

    fn subscriber(&self) -> Result<Subscribing, Error> {
        let mut talk = Talk::connect(self.addr)?;
        let words = Outgoing::question(key::SUBSCRIBE).u8(protocol::ID).string(STREAM);
        // No properties. The answer is for the subscriber: deliveries may follow it at once.
        talk.send(words.u16(OFFSET_FIRST).u16(protocol::CREDIT).u32(0))?;
        Ok((talk.into_socket(), Box::new(protocol::RabbitSubscriber::default())))
    }

    fn stages(&self) -> Vec<(String, Duration)> {
        self.server.stages("server")
    }

    fn stop(self: Box<Self>) -> Result<(), Error> {
        let Self { server, epmd, .. } = *self;
        server.stop()?;
        epmd.stop()
    }
}
