//! A broker as a process of its own, for tests that stop and kill it.
//!
//! ```text
//! broker DATA_DIR [--shards N] [--bind ADDR] [--memory BYTES] [--tick-us N] [--no-watchdog]
//! ```
//!
//! Prints one line of JSON once it listens. `alive?` on its standard input is answered with
//! `alive` as soon as every executor has taken some turns since, or with `stalled SHARD`. The end
//! of its standard input means nothing; SIGTERM and SIGINT drain it.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lanecast_broker::{Broker, BrokerConfig};
use tokio::signal::unix::{SignalKind, signal};

/// Turns that an executor takes to count as alive, and how long it may take for them.
const TURNS: u64 = 3;
const STALL: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

/// Prints an error and what it comes from.
pub(crate) fn complain(error: &dyn Error) {
    eprintln!("{error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  {cause}");
        source = cause.source();
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    serve(std::env::args().skip(1))
}

/// Runs a broker until a signal ends it.
pub(crate) fn serve(arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let config = config(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anybody is told that there is a process to signal.
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let broker = Arc::new(Broker::start(config)?);
    let (addr, admin) = (broker.addr(), broker.admin_addr());
    say(&format!("{{\"addr\":\"{addr}\",\"admin\":\"{admin}\"}}"))?;
    let watched = Arc::downgrade(&broker);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let Some(broker) = watched.upgrade() else { return };
            if line == "alive?" && say(&alive(&broker)).is_err() {
                return;
            }
        }
    });
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    broker.drain();
    match Arc::try_unwrap(broker) {
        Ok(broker) => broker.join()?,
        Err(shared) => drop(shared),
    }
    Ok(())
}

fn config(mut arguments: impl Iterator<Item = String>) -> Result<BrokerConfig, Box<dyn Error>> {
    let mut config = BrokerConfig::new(arguments.next().ok_or("a data directory is needed")?);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--shards" => config.shards = Some(value()?.parse()?),
            "--bind" => config.bind = value()?.parse()?,
            "--memory" => config.memory_bytes = value()?.parse()?,
            "--tick-us" => config.tick = Some(Duration::from_micros(value()?.parse()?)),
            "--no-watchdog" => config.watchdog = false,
            other => return Err(format!("unknown flag {other}").into()),
        }
    }
    Ok(config)
}

fn alive(broker: &Broker) -> String {
    let before = broker.turns();
    let deadline = Instant::now() + STALL;
    loop {
        let now = broker.turns();
        let silent = before.iter().zip(&now).position(|(before, now)| now - before < TURNS);
        match silent {
            None => return "alive".to_owned(),
            Some(shard) if Instant::now() >= deadline => return format!("stalled {shard}"),
            Some(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
