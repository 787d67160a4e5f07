//! Signals: the first asks for a drain, the second ends the process at once.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that stop a role.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes over SIGTERM and SIGINT.
    ///
    /// # Errors
    /// The system refuses the handler.
    pub(crate) fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Completes at the next signal; gives its number. Cancel-safe.
    pub(crate) async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = self.interrupt.recv() => libc::SIGINT,
        }
    }

    /// From now on the next signal ends the process, with the shell's code for that signal.
    pub(crate) fn exit_at_next(mut self) {
        tokio::spawn(async move {
            let number = self.next().await;
            tracing::warn!(signal = number, "second signal, ending at once");
            std::process::exit(128 + number);
        });
    }
}

/// What a shell says of a process that this signal has ended.
pub(crate) fn exit_code(signal: i32) -> ExitCode {
    u8::try_from(128 + signal).map_or(ExitCode::FAILURE, ExitCode::from)
}
