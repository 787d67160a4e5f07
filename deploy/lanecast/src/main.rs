//! `lanecast`: every role of the pipeline as one binary.
//!
//! A command is parsed into [`settings::Settings`], which the command's file under `commands/` maps
//! to the configuration of the crate that does the work. `up` starts the same commands as child
//! processes, so that what a laptop runs is what a fleet runs.

mod cli;
mod commands;
mod http;
mod logging;
mod ready;
mod settings;
mod signals;
mod units;
mod up;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use settings::Settings;

/// What a command ends with: an exit code, or an error with its chain of causes.
type Outcome = Result<ExitCode, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    up::child::follow_parent();
    match run() {
        Ok(code) => code,
        Err(error) => {
            report(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let matches = cli::command().get_matches();
    let mut path: Vec<&str> = Vec::new();
    let mut leaf = &matches;
    while let Some((name, inner)) = leaf.subcommand() {
        path.push(name);
        leaf = inner;
    }
    // Without a subcommand it is `up` with its defaults.
    let defaults;
    let role = match cli::ROLES.iter().find(|role| role.path == path) {
        Some(role) => role,
        None => {
            defaults = cli::with_settings(clap::Command::new("up"), &cli::UP.settings())
                .get_matches_from(["up"]);
            leaf = &defaults;
            &&cli::UP
        }
    };
    let settings = Settings::resolve(&role.settings(), leaf, &|name| std::env::var(name).ok())?;
    if leaf.get_flag("print-config") {
        settings::print_config(&settings, &mut std::io::stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    }
    commands::run(role, &settings)
}

/// Prints the error and what caused it, once each, to the standard error.
fn report(error: &(dyn Error + Send + Sync)) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        // Some errors repeat their source in their own text.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    // Nothing can be done if the standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "lanecast: {text}");
}
