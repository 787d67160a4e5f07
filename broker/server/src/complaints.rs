//! What is logged of peers that were let go for cause: some of it, however many there are.

use std::time::Instant;

use lanecast_core::Offence;
use tracing::warn;

use crate::limits::{COMPLAINTS_MAX, COMPLAINTS_WINDOW};

/// Lines of one executor about its peers, at most so many in a window of time.
#[derive(Debug)]
pub(crate) struct Complaints {
    window: Instant,
    said: u32,
    left_out: u64,
}

impl Complaints {
    pub(crate) fn new(now: Instant) -> Self {
        Complaints { window: now, said: 0, left_out: 0 }
    }

    /// One more was let go.
    pub(crate) fn complain(
        &mut self,
        now: Instant,
        peer: &str,
        client: &str,
        offence: Offence,
        detail: &str,
    ) {
        match self.may_say(now) {
            Some(0) => {
                warn!(peer, client, reason = offence.name(), detail, "a peer was disconnected");
            }
            Some(left_out) => {
                warn!(
                    peer,
                    client,
                    reason = offence.name(),
                    detail,
                    left_out,
                    "a peer was disconnected, after others that were not logged"
                );
            }
            None => {}
        }
    }

    /// How many were left out since the last line, if there may be one now.
    fn may_say(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.window) >= COMPLAINTS_WINDOW {
            (self.window, self.said) = (now, 0);
        }
        if self.said >= COMPLAINTS_MAX {
            self.left_out += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

const _: () = assert!(COMPLAINTS_MAX > 0 && COMPLAINTS_WINDOW.as_millis() > 0);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_of_offenders_is_a_trickle_of_lines_that_accounts_for_all() {
        let start = Instant::now();
        let mut complaints = Complaints::new(start);
        let (mut lines, mut accounted) = (0, 0);
        for number in 0..100_000_u32 {
            let now = start + Duration::from_micros(100) * number;
            if let Some(left_out) = complaints.may_say(now) {
                lines += 1;
                accounted += left_out + 1;
            }
        }
        let windows = 100_000 / (COMPLAINTS_WINDOW.as_micros() as u32 / 100) + 1;
        assert!(lines <= windows * COMPLAINTS_MAX, "{lines}");
        assert_eq!(accounted + complaints.left_out, 100_000);
    }
}
