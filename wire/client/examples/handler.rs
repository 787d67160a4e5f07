//! Handles the messages of a topic as a member of a group, ten at a time, until it is interrupted.
//! Lines that begin with `fail` fail and come again, and after the topic's `max_attempts` they are
//! in its dead-letter topic; lines that begin with `panic` do the same with more noise.
//!
//! ```text
//! cargo run -p lanecast-client --example handler -- 127.0.0.1:9080 greetings workers
//! ```

use std::io::Write;

use lanecast_client::{
    Client, ClientConfig, GroupOptions, HandlerError, Mode, ReceivedMessage, StartPosition,
    SubscriberConfig, SubscriptionConfig,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let addr = arguments.next().unwrap_or_else(|| "127.0.0.1:9080".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "greetings".to_owned());
    let group = arguments.next().unwrap_or_else(|| "workers".to_owned());

    let client = Client::connect(ClientConfig::new(addr, "example-handler")).await?;
    // Small chunks: what a member holds when it dies is handled again by others.
    let options = GroupOptions { chunk_records: 1_000, ..GroupOptions::new(group) };
    let subscriber = SubscriberConfig {
        start: StartPosition::Earliest,
        ..SubscriberConfig::new(topic, Mode::Group(options))
    };
    let config = SubscriptionConfig { workers: 10, ..subscriber.into() };
    let subscription = client.subscribe(config, handle).await?;
    tokio::select! {
        ended = subscription.ended() => ended?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    // Handlers at work finish, and what they did is acknowledged.
    let stats = subscription.unsubscribe().await?;
    eprintln!(
        "{} handled, {} failed ({} panics), {} had come before",
        stats.delivered, stats.errors, stats.panics, stats.redelivered
    );
    Ok(())
}

async fn handle(message: ReceivedMessage) -> Result<(), HandlerError> {
    // Nobody can ever read what is no text: straight to the dead-letter topic.
    let text = std::str::from_utf8(message.payload())
        .map_err(|error| HandlerError::terminate(error.to_string()))?;
    assert!(!text.starts_with("panic"), "told to panic");
    if text.starts_with("fail") {
        return Err(HandlerError::retry("told to fail"));
    }
    let (partition, offset) = (message.partition(), message.offset());
    writeln!(std::io::stdout(), "{partition}/{offset}: {text}")?;
    Ok(())
}
