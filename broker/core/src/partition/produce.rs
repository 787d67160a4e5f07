//! Taking a batch: judged, copied into the log, stamped, answered once it is durable.
//!
//! A partition without room does as its topic says. Dropping the new batch uses up its sequence, so
//! that a retry of it is dropped, too, and never comes to stand behind later ones. Dropping the old
//! is the log's matter; where that makes no room (too much is on its way to the disk), the batch is
//! refused for now.

use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::message::{Durability, OnFull};
use lanecast_wire::{ErrorCode, Offset};

use super::acks::{Asker, PendingAck};
use super::producers::Judged;
use super::{Batch, Partition, failure_code};
use crate::group::BatchBounds;
use crate::limits::PENDING_ACKS_MAX;
use crate::log::{AppendRefused, Entry};
use crate::mutants::{Mutant, planted};
use crate::outbox::Outbox;
use crate::{BuryMessage, DiskErrorKind, Now, RequestId, ShardId, ShardMessage};

type Refused = (ErrorCode, String);

impl Partition {
    /// Takes a batch whose checksum has been checked. Every request is answered, now or later.
    pub(crate) fn produce(
        &mut self,
        now: Now,
        shard: ShardId,
        request: RequestId,
        batch: Batch<'_>,
        out: &mut Outbox,
    ) {
        let asker = Asker::Producer(request);
        if let Err((code, message)) = self.append(now, shard, asker, batch, out) {
            asker.refuse(shard, code, &message, out);
        }
    }

    /// Takes a dead letter of another topic. It is never dropped.
    pub(crate) fn bury(&mut self, now: Now, shard: ShardId, bury: &BuryMessage, out: &mut Outbox) {
        let BuryMessage { origin, group, epoch, number, follows, ref letter } = *bury;
        let asker = Asker::Burial { origin, group, epoch, number, follows };
        if let Err((code, message)) = self.append(now, shard, asker, Batch::Passing(letter), out) {
            asker.refuse(shard, code, &message, out);
        }
    }

    fn append(
        &mut self,
        now: Now,
        shard: ShardId,
        asker: Asker,
        batch: Batch<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        if self.draining {
            return Err(plain(ErrorCode::DRAINING));
        }
        let header =
            BatchHeader::decode(&batch).map_err(|error| (error.code(), error.to_string()))?;
        let is_open = self.log.is_open();
        let judged = match asker {
            Asker::Producer(_) => self.producers.judge(now, &header),
            Asker::Burial { follows, .. } => {
                self.producers.judge_letter(now, &header, follows, self.log.next_offset())
            }
        };
        match judged {
            _ if !is_open && !self.is_short_of_space() => return Err(self.closed()),
            Judged::Refused(code) => {
                return Err(if is_open { plain(code) } else { self.closed() });
            }
            Judged::Duplicate { .. } if !is_open => return Err(self.closed()),
            Judged::Duplicate { base_offset, end_offset } => {
                return self.duplicate(shard, asker, base_offset, end_offset, out);
            }
            Judged::Dropped => {
                self.counters.duplicates += 1;
                dropped(shard, asker, out);
                return Ok(());
            }
            Judged::New if !self.queue.takes_records() => return Err(self.closed()),
            Judged::New => {}
        }
        let bytes = batch.len() as u64;
        if let Err(refused) = self.room_for(bytes) {
            let drops = self.topic.settings.on_full == OnFull::DropNew;
            if !drops || !matches!(asker, Asker::Producer(_)) {
                return Err(refused);
            }
            self.producers.dropped(now, &header);
            self.counters.batches_dropped += 1;
            self.counters.records_dropped += u64::from(header.record_count);
            dropped(shard, asker, out);
            return Ok(());
        }
        let count = header.record_count;
        let max_time_ms = header.max_time_ms;
        let refused = |refused| {
            plain(match refused {
                AppendRefused::Closed => ErrorCode::PARTITION_OFFLINE,
                AppendRefused::TooLarge => ErrorCode::INVALID_REQUEST,
            })
        };
        let base_offset = self.log.next_offset();
        match batch {
            Batch::Staying(mut bytes) if self.log.adopts(bytes.len()) => {
                batch::stamp(&mut bytes, Offset(base_offset), now.wall_ms);
                let sum = |bytes: &[u8]| batch::sum(bytes, &header);
                self.log.adopt(now, bytes, sum, count, max_time_ms).map_err(refused)?;
            }
            Batch::Staying(_) | Batch::Passing(_) => {
                let (head, rest) = batch::stamped(&batch, Offset(base_offset), now.wall_ms);
                let entry = Entry { parts: [&head, rest], count, max_time_ms, patient: false };
                self.log.append(now, entry).map_err(refused)?;
            }
        }
        self.account.update(&self.log);
        self.producers.appended(now, &header, base_offset);
        self.queue.appended(BatchBounds {
            first: Offset(base_offset),
            last: Offset(base_offset + u64::from(count) - 1),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            appended_ms: now.wall_ms,
        });
        self.counters.records_in += u64::from(count);
        self.counters.bytes_in += bytes;
        let end_offset = base_offset + u64::from(count);
        let duplicate = false;
        self.acks.insert(PendingAck { shard, asker, base_offset, end_offset, duplicate });
        Ok(())
    }

    /// Appended before: answered as the first time, once that is durable.
    fn duplicate(
        &mut self,
        shard: ShardId,
        asker: Asker,
        base_offset: u64,
        end_offset: u64,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        self.counters.duplicates += 1;
        let ack = PendingAck { shard, asker, base_offset, end_offset, duplicate: true };
        if end_offset <= self.log.durable_end() || planted(Mutant::AnswerRetryBeforeFlush) {
            ack.answer(out);
        } else if let Some(detail) = self.log.no_space() {
            // It is appended, and will be found so once there is space.
            return Err((ErrorCode::NO_SPACE, detail.to_owned()));
        } else if self.acks.len() < PENDING_ACKS_MAX {
            self.acks.insert(ack);
        } else {
            return Err(plain(ErrorCode::OVERLOADED));
        }
        Ok(())
    }

    /// Is there room for a new batch, perhaps because older records go?
    fn room_for(&self, bytes: u64) -> Result<(), Refused> {
        if !self.log.is_open() {
            return Err(self.closed());
        }
        if let Some(detail) = self.log.no_space() {
            return Err((ErrorCode::NO_SPACE, detail.to_owned()));
        }
        let undurable = self.log.undurable_bytes();
        let full = undurable + bytes > self.undurable_bytes_max && undurable > 0;
        let full =
            full || self.account.is_undurable_full(usize::try_from(bytes).unwrap_or(usize::MAX));
        if full || self.acks.len() >= PENDING_ACKS_MAX {
            return Err(plain(ErrorCode::OVERLOADED));
        }
        let settings = &self.topic.settings;
        if settings.on_full == OnFull::DropOld {
            return Ok(());
        }
        if self.log.is_held() {
            let name = &self.topic.name;
            let message = format!(
                "topic {name} holds its {} bytes, and the oldest are on lease",
                settings.retention_bytes
            );
            return Err((ErrorCode::OVERLOADED, message));
        }
        // Broadcast subscribers hold nobody up: they are told what they missed.
        let unread = settings.durability == Durability::Memory
            && self.log.would_trim(bytes).is_some_and(|end| end > self.queue.lowest_needed());
        if unread {
            let name = &self.topic.name;
            let message = format!("topic {name} is full of records that a group works on");
            return Err((ErrorCode::OVERLOADED, message));
        }
        Ok(())
    }

    fn is_short_of_space(&self) -> bool {
        matches!(self.failed, Some((DiskErrorKind::NoSpace, _)))
    }

    fn closed(&self) -> Refused {
        match &self.failed {
            Some((kind, detail)) => (failure_code(*kind), detail.clone()),
            None => plain(ErrorCode::PARTITION_OFFLINE),
        }
    }
}

fn plain(code: ErrorCode) -> Refused {
    (code, code.text().to_owned())
}

fn dropped(shard: ShardId, asker: Asker, out: &mut Outbox) {
    if let Asker::Producer(request) = asker {
        out.send(shard, ShardMessage::Dropped { request });
    }
}
