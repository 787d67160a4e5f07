//! So many batches at once, in or out, with no clock: what fills a log, and what reads it back.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::line::Line;
use super::{Publisher, Subscriber};
use crate::limits::{BATCHES_PER_TURN, RECEIVE_BYTES};
use crate::{Error, Sample};

/// Publishes that many batches, and waits until all are acknowledged.
///
/// # Errors
/// As [`super::run`].
pub fn fill(
    (socket, mut publisher): (TcpStream, Box<dyn Publisher>),
    batches: u64,
) -> Result<(), Error> {
    let mut line = Line::new(socket)?;
    let mut buffer = vec![0; RECEIVE_BYTES];
    let window = u64::from(publisher.window().min(BATCHES_PER_TURN));
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < batches {
        while sent < batches && sent - acknowledged < window {
            publisher.publish(&mut line.out);
            sent += 1;
        }
        line.blocked = false;
        line.flush()?;
        match line.receive(&mut buffer)? {
            Some(bytes) => {
                let answered = publisher.receive(&buffer[..bytes], &mut line.out)?;
                acknowledged += u64::from(answered);
            }
            None => std::thread::yield_now(),
        }
    }
    Ok(())
}

/// Takes that many batches of as many records and bytes each; the clock runs from `start`, which is before
/// the subscription was made, to the last.
///
/// # Errors
/// As [`super::run`].
pub fn take(
    (socket, mut subscriber): (TcpStream, Box<dyn Subscriber>),
    batches: u64,
    (batch_records, batch_bytes): (u64, u64),
    start: Instant,
    cpu: &dyn Fn() -> Vec<(String, Duration)>,
) -> Result<Sample, Error> {
    let mut line = Line::new(socket)?;
    let mut buffer = vec![0; RECEIVE_BYTES];
    let before = cpu();
    let own_before = crate::cpu::of_this_thread();
    let mut taken = 0;
    while taken < batches {
        match line.receive(&mut buffer)? {
            Some(bytes) => {
                subscriber.receive(&buffer[..bytes], &mut line.out, &mut |_| taken += 1)?;
                line.blocked = false;
                line.flush()?;
            }
            None => std::hint::spin_loop(),
        }
    }
    let elapsed = start.elapsed();
    let mut stages: Vec<(String, Duration)> = before
        .into_iter()
        .zip(cpu())
        .map(|((stage, from), (_, to))| (stage, to.saturating_sub(from)))
        .collect();
    let own = crate::cpu::of_this_thread().saturating_sub(own_before);
    stages.push(("client".to_owned(), own));
    let (records, bytes) = (taken * batch_records, taken * batch_bytes);
    Ok(Sample { records, bytes, elapsed, cpu: stages, ..Sample::default() })
}
