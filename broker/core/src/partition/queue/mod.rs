//! The work-queue side of a partition: its consumer groups, their log, their members.
//!
//! ```text
//!            groups log replayed              opened
//!  Recovering ─────────────────▶ Recovering ────────▶ Online ── log failed ──▶ Recovering
//! ```
//!
//! Groups decide ([`crate::group`]); this is what connects them: records to the groups log and back
//! once durable, batches from the data log to groups that want them, chunks to members.
//!
//! When a new segment of the groups log has begun, a snapshot of all groups is written to it; once
//! that is durable, the older segments are of no use.

mod feed;
mod persistence;

use std::collections::{BTreeMap, VecDeque};

use lanecast_wire::message::{GroupInfo, GroupOptions, OffsetRange};
use lanecast_wire::{ErrorCode, Offset, PartitionId, ProducerEpoch};

use self::feed::UnderWay;
use crate::disk::Operations;
use crate::group::{
    Asker, Claim, DeadLetter, Departure, GroupId, GroupSettings, Groups, GroupsRecovery, MemberKey,
    Output, PersistToken,
};
use crate::log::{AppendRefused, Block, Entry, Log, ReadAt, records};
use crate::outbox::Outbox;
use crate::partition::credit::Credit;
use crate::partition::cursor::Sent;
use crate::partition::members::{Member, Members, subscriber};
use crate::partition::reader::Reader;
use crate::{
    DiskDone, DiskError, GroupStats, GroupsMessage, Now, OperationId, RefusedMessage, RequestId,
    Settle, SettleMessage, ShardId, ShardMessage, SubscribeOutcome, SubscribeRefused, SubscribedAt,
    SubscribedMessage,
};

#[derive(Debug)]
enum State {
    Recovering(GroupsRecovery),
    Online(Groups),
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Queue {
    partition: PartitionId,
    /// Of the partition's data log.
    log_epoch: u64,
    log: Log,
    state: State,
    members: Members,
    feeds: BTreeMap<GroupId, Reader>,
    under_way: UnderWay,
    /// Records under way: the offset behind each.
    persisting: VecDeque<(u64, PersistToken)>,
    /// The groups log has been read; the groups follow once the data log has been, too.
    opened: bool,
    /// A snapshot is on its way: from where to where in the log.
    snapshot: Option<(u64, u64)>,
    settings: GroupSettings,
    /// For the dead-letter topic, not yet taken.
    letters: VecDeque<DeadLetter>,
    high_watermark: u64,
    log_start: u64,
    stopped: bool,
    detail: Option<String>,
    /// Records of groups are lost: which bounds were given out is not known any more.
    damaged: bool,
    /// No group has bounds behind the end of the data log, durably, but of what is on its way there.
    aligned: bool,
    /// The data log has failed, and has lost what was on its way.
    rewind: bool,
    /// Members that had chunks when the groups were closed have until then to come back.
    held_until_us: Option<u64>,
}

impl Queue {
    pub(crate) fn new(
        partition: PartitionId,
        log_epoch: u64,
        log: Log,
        settings: GroupSettings,
    ) -> Self {
        Queue {
            partition,
            log_epoch,
            log,
            state: State::Recovering(GroupsRecovery::new()),
            members: Members::new(),
            feeds: BTreeMap::new(),
            under_way: UnderWay::default(),
            persisting: VecDeque::new(),
            opened: false,
            snapshot: None,
            settings,
            letters: VecDeque::new(),
            high_watermark: 0,
            log_start: 0,
            stopped: false,
            detail: None,
            damaged: false,
            aligned: false,
            rewind: false,
            held_until_us: None,
        }
    }

    pub(crate) fn is_online(&self) -> bool {
        matches!(self.state, State::Online(_))
    }

    pub(crate) fn is_known(&self) -> bool {
        self.log.is_known()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.log.is_idle()
    }

    /// May records be appended to the data log? Not before it is known, and durable, that no group
    /// has bounds behind its end: it may have lost its tail, and groups remember what was in it.
    /// Damaged groups are read no more, so nothing of theirs can be taken for what is new.
    pub(crate) fn takes_records(&self) -> bool {
        self.aligned || self.damaged
    }

    pub(crate) fn detail(&self) -> Option<&str> {
        self.detail.as_deref().or_else(|| self.log.no_space())
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Where the first record stands that a group with members has not finished.
    pub(crate) fn lowest_needed(&self) -> u64 {
        if self.members.is_empty() {
            return u64::MAX;
        }
        let State::Online(groups) = &self.state else { return u64::MAX };
        groups.lowest_unfinished().map_or(u64::MAX, |offset| offset.0)
    }

    pub(crate) fn stats(&self) -> Vec<GroupStats> {
        match &self.state {
            State::Online(groups) => groups.stats(),
            State::Recovering(_) => Vec::new(),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        let groups = match &self.state {
            State::Online(groups) => groups.poll_timeout(),
            State::Recovering(_) => None,
        };
        [groups, self.held_until_us, self.log.poll_timeout()].into_iter().flatten().min()
    }

    pub(crate) fn complete(
        &mut self,
        now: Now,
        operation: OperationId,
        outcome: Result<DiskDone, DiskError>,
        operations: &mut Operations,
    ) {
        self.log.complete(now, operation, outcome, operations);
    }

    /// Does the group exist, so that a member's start position means nothing?
    pub(crate) fn has_group(&self, name: &str) -> bool {
        match &self.state {
            State::Online(groups) => groups.find(name).is_some(),
            State::Recovering(_) => false,
        }
    }

    /// Takes a member in; it is answered once its group is durable.
    pub(crate) fn join(
        &mut self,
        now: Now,
        key: MemberKey,
        options: GroupOptions,
        start: Offset,
        credit: Credit,
    ) -> Result<(), ErrorCode> {
        let State::Online(groups) = &mut self.state else {
            return Err(ErrorCode::PARTITION_OFFLINE);
        };
        if groups.find(&options.group).is_none() && self.log.no_space().is_some() {
            return Err(ErrorCode::NO_SPACE);
        }
        enter(groups, now, key, &options, start)?;
        self.members.insert(key, Member::new(options, start, credit));
        Ok(())
    }

    pub(crate) fn leave(&mut self, now: Now, key: MemberKey, departure: Departure) {
        if self.members.remove(&key).is_some()
            && let State::Online(groups) = &mut self.state
        {
            groups.leave(now, key, departure);
        }
    }

    /// The topic's settings have changed.
    pub(crate) fn configure(&mut self, now: Now, settings: GroupSettings) {
        self.settings = settings;
        if let State::Online(groups) = &mut self.state {
            groups.configure(now, settings);
        }
    }

    /// Batches that were appended at or before this have outlived the topic's `record_ttl_ms`.
    pub(crate) fn set_horizon(&mut self, horizon_ms: Option<i64>) {
        if let State::Online(groups) = &mut self.state {
            groups.set_horizon(horizon_ms);
        }
    }

    /// Where retention stops: a member works on what lies there, or did so when the groups were
    /// opened and has not had the time of a lease to come back.
    pub(crate) fn lowest_held(&self, now: Now) -> Option<Offset> {
        let State::Online(groups) = &self.state else { return None };
        let come_back = self.held_until_us.is_some_and(|until_us| now.mono_us < until_us);
        let open = come_back.then(|| groups.lowest_open()).flatten();
        open.into_iter().chain(groups.lowest_leased()).min()
    }

    /// The next dead letter to be appended to the dead-letter topic.
    pub(crate) fn poll_dead_letter(&mut self) -> Option<DeadLetter> {
        self.letters.pop_front()
    }

    /// A dead letter is durable in the dead-letter topic.
    pub(crate) fn dead_lettered(&mut self, now: Now, group: GroupId, epoch: ProducerEpoch) {
        if let State::Online(groups) = &mut self.state {
            groups.dead_lettered(now, group, epoch);
        }
    }

    /// The group goes on at `to`, where a batch begins.
    pub(crate) fn move_group(
        &mut self,
        name: &str,
        to: Offset,
        asker: Asker,
    ) -> Result<(), ErrorCode> {
        match &mut self.state {
            State::Online(_) if self.log.no_space().is_some() => Err(ErrorCode::NO_SPACE),
            State::Online(groups) => groups.move_to(name, to, asker),
            State::Recovering(_) => Err(ErrorCode::PARTITION_OFFLINE),
        }
    }

    pub(crate) fn delete_group(&mut self, name: &str, asker: Asker) -> Result<(), ErrorCode> {
        match &mut self.state {
            State::Online(_) if self.log.no_space().is_some() => Err(ErrorCode::NO_SPACE),
            State::Online(groups) => groups.delete(name, asker),
            State::Recovering(_) => Err(ErrorCode::PARTITION_OFFLINE),
        }
    }

    /// The groups as a client is told of them.
    pub(crate) fn infos(&self) -> Result<Vec<GroupInfo>, ErrorCode> {
        match &self.state {
            State::Online(groups) => {
                Ok(groups.stats().iter().map(|group| self.info(group)).collect())
            }
            State::Recovering(_) => Err(ErrorCode::PARTITION_OFFLINE),
        }
    }

    fn info(&self, group: &GroupStats) -> GroupInfo {
        GroupInfo {
            name: group.name.clone(),
            acked_upto: group.acked_upto,
            high_watermark: self.high_watermark,
            lag_records: group.lag_records,
            members: group.members,
            in_flight_chunks: group.in_flight_chunks,
            open_chunks: group.open_chunks,
            redelivered_chunks: group.redelivered,
            expired_leases: group.expired,
            dead_lettered_records: group.dead_lettered_records,
            skipped_records: group.skipped_records + group.expired_records,
        }
    }

    /// Members that sit on this connection.
    pub(crate) fn keys_of(
        &self,
        shard: ShardId,
        connection: crate::ConnectionId,
    ) -> Vec<MemberKey> {
        let of = |key: &&MemberKey| key.shard == shard && key.connection == connection;
        self.members.keys().filter(of).copied().collect()
    }

    pub(crate) fn credit(&mut self, key: MemberKey, bytes: u32) -> bool {
        let member = self.members.get_mut(&key);
        let found = member.is_some();
        if let Some(member) = member {
            member.credit.grant(bytes);
        }
        found
    }

    /// An ack, nack, extend or terminate. Good acks and terminates are answered later.
    pub(crate) fn settle(
        &mut self,
        now: Now,
        from: ShardId,
        message: &SettleMessage,
        out: &mut Outbox,
    ) {
        let key = MemberKey {
            shard: from,
            connection: message.subscriber.connection,
            subscription: message.subscriber.subscription,
        };
        let request = message.request;
        let claim = |first, last, generation| Claim {
            first: Offset(first),
            last: Offset(last),
            generation,
        };
        let State::Online(groups) = &mut self.state else {
            refuse(from, request, ErrorCode::PARTITION_OFFLINE, out);
            return;
        };
        let writes = matches!(&message.settle, Settle::Ack(_) | Settle::Terminate(_));
        if writes && self.log.no_space().is_some() {
            refuse(from, request, ErrorCode::NO_SPACE, out);
            return;
        }
        let settled = match &message.settle {
            Settle::Ack(ack) => {
                let claim = claim(ack.first, ack.last, ack.generation);
                match groups.ack(now, key, claim, request.correlation) {
                    Ok(()) => return,
                    Err(code) => Err(code),
                }
            }
            Settle::Nack(nack) => {
                let claim = claim(nack.first, nack.last, nack.generation);
                groups.nack(now, key, claim, nack.delay_ms, &nack.reason)
            }
            Settle::Extend(extend) => {
                let claim = claim(extend.first, extend.last, extend.generation);
                groups.extend(now, key, claim, extend.lease_ms)
            }
            Settle::Terminate(terminate) => {
                let range = |range: &OffsetRange| (Offset(range.first), Offset(range.last));
                let ranges: Vec<_> = terminate.ranges.iter().map(range).collect();
                let claim = (ranges.as_slice(), terminate.generation);
                match groups.terminate(now, key, claim, &terminate.reason, request.correlation) {
                    Ok(()) => return,
                    Err(code) => Err(code),
                }
            }
        };
        match settled {
            Ok(()) => out.send(from, ShardMessage::Done { request }),
            Err(code) => refuse(from, request, code, out),
        }
    }

    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.log.stop();
        if let State::Online(groups) = &mut self.state {
            groups.stop();
        }
    }

    /// The data log stands here now.
    pub(crate) fn advance(&mut self, now: Now, data: &Log) {
        self.high_watermark = self.high_watermark.max(data.durable_end());
        self.under_way.durable(self.high_watermark);
        let log_start = data.log_start();
        let State::Online(groups) = &mut self.state else { return };
        groups.advance(now, Offset(self.high_watermark), Offset(data.committing_end()));
        if log_start > self.log_start {
            self.log_start = log_start;
            groups.trim(now, Offset(log_start));
        }
    }

    /// The data log is closed: what was read of it or asked for is void.
    pub(crate) fn data_failed(&mut self) {
        self.feeds.clear();
        self.under_way.clear();
        (self.aligned, self.rewind) = (false, true);
        for member in self.members.values_mut() {
            member.reader.reset();
        }
    }

    /// Lets go of what was read ahead and is not wanted yet.
    pub(crate) fn release_reads(&mut self) {
        self.feeds.values_mut().for_each(Reader::release);
        self.members.values_mut().for_each(|member| member.reader.release());
    }

    /// Blocks of the data log for whoever asked.
    pub(crate) fn answered(
        &mut self,
        operation: OperationId,
        blocks: &mut Vec<Block>,
        next: Option<ReadAt>,
    ) {
        let members = self.members.values_mut().map(|member| &mut member.reader);
        for reader in self.feeds.values_mut().chain(members) {
            if reader.answered(operation, blocks, next) {
                return;
            }
        }
    }

    /// Does everything that can be done now. `data` is open. Gives what went out.
    pub(crate) fn pump(
        &mut self,
        now: Now,
        data: &mut Log,
        operations: &mut Operations,
        out: &mut Outbox,
    ) -> Sent {
        let mut sent = Sent::default();
        if let State::Online(groups) = &mut self.state
            && groups.poll_timeout().is_some_and(|due| due <= now.mono_us)
        {
            groups.handle_timeout(now);
        }
        self.held_until_us.take_if(|until_us| *until_us <= now.mono_us);
        // Each round moves records or chunks on by a step; what is open is bounded.
        loop {
            if matches!(&self.state, State::Online(groups) if groups.is_pressed()) {
                self.log.hurry();
            }
            self.log.pump(now, operations);
            let mut progress = false;
            while let Some(event) = self.log.poll_event() {
                progress = true;
                self.log_event(now, event, out);
            }
            self.refuse_waiting(now, out);
            if data.is_open() {
                if !self.damaged && std::mem::take(&mut self.opened) {
                    self.open(now, out);
                }
                self.rewind();
                self.feed(now, data, operations);
            }
            progress |= self.outputs(now, out);
            if !self.aligned {
                let is_cut = matches!(&self.state, State::Online(groups) if !groups.is_cutting());
                self.aligned = is_cut && !self.rewind;
            }
            if data.is_open() {
                for (key, member) in &mut self.members {
                    let more = member.deliver(*key, self.partition, data, operations, out);
                    sent.records += more.records;
                    sent.bytes += more.bytes;
                }
            }
            if !progress {
                return sent;
            }
        }
    }

    /// Carries out what the groups want. Was there anything?
    fn outputs(&mut self, now: Now, out: &mut Outbox) -> bool {
        let mut any = false;
        let mut changed = Vec::new();
        let State::Online(groups) = &mut self.state else { return false };
        while let Some(output) = groups.poll_output() {
            any = true;
            match output {
                // In memory there is nothing that it would be read back from.
                Output::Persist { token, .. } if self.log.is_in_memory() => {
                    groups.persisted(now, token);
                }
                Output::Persist { token, record, patient } => {
                    if append(&mut self.log, now, &record, patient).is_ok() {
                        self.persisting.push_back((self.log.next_offset(), token));
                    }
                }
                Output::Joined { member: key, next } => {
                    let Some(member) = self.members.get_mut(&key) else { continue };
                    if !member.joined {
                        member.joined = true;
                        let high_watermark = Offset(self.high_watermark);
                        let log_epoch = self.log_epoch;
                        let at = SubscribedAt { next_offset: next, high_watermark, log_epoch };
                        subscribed(key, self.partition, SubscribeOutcome::At(at), out);
                    }
                }
                Output::HandOut(chunk) => {
                    if let Some(member) = self.members.get_mut(&chunk.member) {
                        member.hand_out(chunk);
                    }
                }
                Output::LeaseEnded { member: key, generation, .. } => {
                    if let Some(member) = self.members.get_mut(&key) {
                        member.lease_ended(generation);
                    }
                }
                Output::DeadLetter(letter) => self.letters.push_back(letter),
                Output::Acked { member: key, request } => {
                    let request = RequestId { connection: key.connection, correlation: request };
                    out.send(key.shard, ShardMessage::Done { request });
                }
                Output::Refused { member: key, request, code } => {
                    let request = RequestId { connection: key.connection, correlation: request };
                    refuse(key.shard, request, code, out);
                }
                Output::Answered { asker: Asker { shard, request }, moved } => {
                    changed.push((shard, request, moved));
                }
            }
        }
        for (shard, request, moved) in changed {
            let message = match moved {
                Some(group) => {
                    let groups = vec![self.info(&group)];
                    ShardMessage::Groups(Box::new(GroupsMessage { request, groups }))
                }
                None => ShardMessage::Done { request },
            };
            out.send(shard, message);
        }
        any
    }
}

fn enter(
    groups: &mut Groups,
    now: Now,
    key: MemberKey,
    options: &GroupOptions,
    start: Offset,
) -> Result<(), ErrorCode> {
    let id = match groups.find(&options.group) {
        Some(id) => id,
        None => groups.create(now, &options.group, start)?,
    };
    groups.join(now, id, key, options)
}

fn append(log: &mut Log, now: Now, record: &[u8], patient: bool) -> Result<(), AppendRefused> {
    let prefix = records::prefix(record);
    let entry = Entry { parts: [&prefix, record], count: 1, max_time_ms: i64::MIN, patient };
    log.append(now, entry).map(|_| ())
}

fn subscribed(key: MemberKey, partition: PartitionId, outcome: SubscribeOutcome, out: &mut Outbox) {
    let message = SubscribedMessage { subscriber: subscriber(key), partition, outcome };
    out.send(key.shard, ShardMessage::Subscribed(Box::new(message)));
}

pub(super) fn refused(code: ErrorCode) -> SubscribeRefused {
    SubscribeRefused { code, message: code.text().to_owned() }
}

pub(super) fn refuse(to: ShardId, request: RequestId, code: ErrorCode, out: &mut Outbox) {
    let message = code.text().to_owned();
    let refused = RefusedMessage { request, produce: false, code, message, retry_after_ms: 0 };
    out.send(to, ShardMessage::Refused(Box::new(refused)));
}
