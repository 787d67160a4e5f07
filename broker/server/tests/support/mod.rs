//! A broker in a process of its own: the test binary started again, so that it is never stale.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

#[path = "../../examples/broker.rs"]
#[allow(dead_code)]
mod example;

/// Set in the process that is to be the broker; its arguments, one per line.
const ARGUMENTS: &str = "LANECAST_TEST_BROKER";

/// What the test named `broker_process`, which every binary with this module has, does.
pub(crate) fn be_a_broker_if_asked() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let code = match example::serve(arguments.lines().map(str::to_owned)) {
        Ok(()) => 0,
        Err(error) => {
            example::complain(&*error);
            1
        }
    };
    std::process::exit(code);
}

pub(crate) struct BrokerProcess {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["broker_process", "--exact", "--nocapture"])
        .env(ARGUMENTS, arguments.join("\n"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

impl BrokerProcess {
    /// Starts a broker and waits until it listens.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with('{') {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the broker did not start");
        }
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        let addr = |name: &str| said[name].as_str().unwrap().parse().unwrap();
        BrokerProcess { child, input, output, addr: addr("addr"), admin: addr("admin") }
    }

    /// Starts a broker that will not start; gives what it complained of.
    pub(crate) fn start_in_vain(arguments: &[&str]) -> String {
        let mut child = command(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut complaint = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        assert!(!child.wait().unwrap().success(), "the broker started");
        complaint
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// `alive`, once every executor has turned a few times since; else `stalled SHARD`.
    pub(crate) fn alive(&mut self) -> String {
        writeln!(self.input, "alive?").unwrap();
        let mut line = String::new();
        // The test harness of the other process has things to say, too.
        while line != "alive\n" && !line.starts_with("stalled") {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the broker is gone");
        }
        line.trim().to_owned()
    }

    /// Drains it; gives how it ended.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().unwrap()
    }

    /// As a power cut to the process.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // It may have ended already, as it should.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
