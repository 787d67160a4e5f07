//! Taking a batch: judged, copied into the log, stamped, answered once it is durable.

use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::{ErrorCode, Offset};

use super::acks::PendingAck;
use super::producers::Judged;
use super::{Partition, answer, failure_code};
use crate::limits::{PENDING_ACKS_MAX, RETRY_AFTER_MS};
use crate::log::{AppendRefused, Entry};
use crate::mutants::{Mutant, planted};
use crate::outbox::Outbox;
use crate::{Now, RefusedMessage, RequestId, ShardId, ShardMessage};

impl Partition {
    /// Takes a batch whose checksum has been checked. Every request is answered, now or later.
    pub(crate) fn produce(
        &mut self,
        now: Now,
        shard: ShardId,
        request: RequestId,
        batch: &[u8],
        out: &mut Outbox,
    ) {
        if let Err((code, message)) = self.append(now, shard, request, batch, out) {
            let retry_after_ms = if code.is_retryable() { RETRY_AFTER_MS } else { 0 };
            let refused = RefusedMessage { request, produce: true, code, message, retry_after_ms };
            out.send(shard, ShardMessage::Refused(Box::new(refused)));
        }
    }

    fn append(
        &mut self,
        now: Now,
        shard: ShardId,
        request: RequestId,
        bytes: &[u8],
        out: &mut Outbox,
    ) -> Result<(), (ErrorCode, String)> {
        let plain = |code: ErrorCode| (code, code.text().to_owned());
        if self.draining {
            return Err(plain(ErrorCode::DRAINING));
        }
        if !self.log.is_open() {
            return Err(match &self.failed {
                Some((kind, detail)) => (failure_code(*kind), detail.clone()),
                None => plain(ErrorCode::PARTITION_OFFLINE),
            });
        }
        let header =
            BatchHeader::decode(bytes).map_err(|error| (error.code(), error.to_string()))?;
        match self.producers.judge(now, &header) {
            Judged::Refused(code) => return Err(plain(code)),
            Judged::Duplicate { base_offset, end_offset } => {
                self.counters.duplicates += 1;
                let duplicate = true;
                let ack = PendingAck { shard, request, base_offset, end_offset, duplicate };
                if end_offset <= self.log.durable_end() || planted(Mutant::AnswerRetryBeforeFlush) {
                    answer(&ack, out);
                } else if self.acks.len() < PENDING_ACKS_MAX {
                    self.acks.insert(ack);
                } else {
                    return Err(plain(ErrorCode::OVERLOADED));
                }
                return Ok(());
            }
            Judged::New => {}
        }
        let full = self.log.undurable_bytes() + bytes.len() as u64 > self.undurable_bytes_max
            && self.log.undurable_bytes() > 0;
        let full = full || self.account.is_undurable_full(bytes.len());
        if full || self.acks.len() >= PENDING_ACKS_MAX {
            return Err(plain(ErrorCode::OVERLOADED));
        }
        let count = header.record_count;
        let entry = Entry { parts: [bytes, &[]], count, max_time_ms: header.max_time_ms };
        let (base_offset, stamped) = self.log.append(now, entry).map_err(|refused| {
            plain(match refused {
                AppendRefused::Closed => ErrorCode::PARTITION_OFFLINE,
                AppendRefused::TooLarge => ErrorCode::INVALID_REQUEST,
            })
        })?;
        batch::stamp(stamped, Offset(base_offset), now.wall_ms);
        self.account.update(&self.log);
        self.producers.appended(now, &header, base_offset);
        self.counters.records_in += u64::from(count);
        self.counters.bytes_in += bytes.len() as u64;
        let end_offset = base_offset + u64::from(count);
        let duplicate = false;
        self.acks.insert(PendingAck { shard, request, base_offset, end_offset, duplicate });
        Ok(())
    }
}
