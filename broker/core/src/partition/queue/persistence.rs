//! The groups log: what groups have written, read back, made durable, or lost.

use lanecast_wire::limits::LEASE_MS_DEFAULT;
use lanecast_wire::{CorrelationId, ErrorCode, Offset};

use super::{Queue, State, append, enter, refuse, refused, subscribed};
use crate::group::{Departure, GroupRecord, GroupsRecovery, Unanswered};
use crate::log::{Block, LogEvent, records};
use crate::outbox::Outbox;
use crate::{Action, Damage, LogId, Now, RequestId, SubscribeOutcome};

impl Queue {
    pub(super) fn log_event(&mut self, now: Now, event: LogEvent, out: &mut Outbox) {
        match event {
            LogEvent::Restarted => {
                self.give_up(ErrorCode::STORAGE_FAILED, out);
                self.state = State::Recovering(GroupsRecovery::new());
                self.damaged = false;
            }
            LogEvent::Damaged(damage) => self.damaged(damage, out),
            LogEvent::Replayed(block) => self.replay(now, &block),
            LogEvent::Opened => self.opened = true,
            LogEvent::Durable => self.durable(now),
            LogEvent::Rolled => {
                // A snapshot that runs over into the next segment needs no other there.
                if self.snapshot.is_none() {
                    // What was decided before the snapshot stands before it.
                    self.outputs(now, out);
                    let begin = self.log.next_offset();
                    if self.write_snapshot(now) {
                        self.snapshot = Some((begin, self.log.next_offset()));
                    }
                }
            }
            LogEvent::Failed(failure) => {
                self.detail = Some(failure.detail);
                self.give_up(ErrorCode::STORAGE_FAILED, out);
            }
            // Group logs are read at recovery only.
            LogEvent::Read { .. } => {}
        }
    }

    /// A lost bound must not become another one, so a partition whose groups have lost records, or
    /// have some that do not read, keeps them closed. What loses no record is only told.
    fn damaged(&mut self, damage: Damage, out: &mut Outbox) {
        let log = LogId::Groups(self.partition);
        out.actions.push_back(Action::Damaged { log, damage });
        if !damage.loses_records() || self.log.accepts(&damage) {
            return;
        }
        self.damaged = true;
        self.detail = Some(format!(
            "consumer groups are closed: their log is damaged, {damage}, and which chunks were given \
             out is not known; restore the segment from a copy or start the version that wrote it, or \
             stop the broker and move the folder of the groups log and its witness away: then groups \
             begin anew, and may deliver records again; until then retention takes nothing that they \
             may need"
        ));
    }

    fn replay(&mut self, now: Now, block: &Block) {
        let State::Recovering(recovery) = &mut self.state else { return };
        let is_whole = self.log.damages().iter().all(|damage| !damage.loses_records());
        let from_start = self.log.log_start() == 0;
        for (number, record) in (0..).zip(records::iter(&block.payload)) {
            if recovery.apply(&record).is_ok() {
                continue;
            }
            let must_fit = is_whole && (from_start || recovery.has_snapshot());
            if must_fit || GroupRecord::decode(&record).is_err() {
                self.log.note_unreadable(now, block, number);
            }
        }
    }

    /// Both logs have been read: the groups go on where the logs say.
    pub(super) fn open(&mut self, now: Now, out: &mut Outbox) {
        let state = std::mem::replace(&mut self.state, State::Recovering(GroupsRecovery::new()));
        let mut groups = match state {
            State::Recovering(recovery) => recovery.finish(self.settings),
            State::Online(groups) => groups,
        };
        self.detail = None;
        self.held_until_us = Some(now.mono_us + u64::from(LEASE_MS_DEFAULT) * 1000);
        let end = Offset(self.high_watermark);
        groups.advance(now, end, end);
        groups.cut(end);
        self.rewind = false;
        groups.trim(now, Offset(self.log_start));
        // Members that were here before the log failed come back by themselves.
        let mut gone = Vec::new();
        for (key, member) in &self.members {
            if let Err(code) = enter(&mut groups, now, *key, &member.options, member.start) {
                gone.push((*key, code));
            }
        }
        for (key, code) in gone {
            self.members.remove(&key);
            let connection = key.connection;
            let request = RequestId { connection, correlation: CorrelationId(0) };
            refuse(key.shard, request, code, out);
        }
        if self.stopped {
            groups.stop();
        }
        self.state = State::Online(groups);
    }

    fn durable(&mut self, now: Now) {
        let end = self.log.durable_end();
        let mut last = None;
        while let Some((behind, token)) = self.persisting.front().copied()
            && behind <= end
        {
            self.persisting.pop_front();
            last = Some(token);
        }
        if let (Some(token), State::Online(groups)) = (last, &mut self.state) {
            groups.persisted(now, token);
        }
        if let Some((snapshot_begin, snapshot_end)) = self.snapshot
            && snapshot_end <= end
        {
            self.snapshot = None;
            self.log.retire_below(snapshot_begin);
        }
    }

    /// Writes down all groups as they are. Is it on its way?
    fn write_snapshot(&mut self, now: Now) -> bool {
        let State::Online(groups) = &self.state else { return false };
        groups.snapshot().iter().all(|record| append(&mut self.log, now, record, false).is_ok())
    }

    /// The topic is deleted.
    pub(crate) fn close(mut self, code: ErrorCode, out: &mut Outbox) {
        self.give_up(code, out);
    }

    /// Nothing that waits on the groups log will be durable.
    fn give_up(&mut self, code: ErrorCode, out: &mut Outbox) {
        self.persisting.clear();
        self.snapshot = None;
        self.opened = false;
        self.feeds.clear();
        let recovering = State::Recovering(GroupsRecovery::new());
        let State::Online(groups) = std::mem::replace(&mut self.state, recovering) else { return };
        self.refuse_all(groups.into_unanswered(), code, out);
        // They are given out anew once it is known which of them are durable.
        self.letters.clear();
        for member in self.members.values_mut() {
            member.forget_deliveries();
        }
    }

    /// A full disk holds the groups log up: whoever waits for it is told, and asks again.
    pub(super) fn refuse_waiting(&mut self, now: Now, out: &mut Outbox) {
        if self.log.no_space().is_none() {
            return;
        }
        let State::Online(groups) = &mut self.state else { return };
        let unanswered = groups.take_unanswered();
        for key in &unanswered.joins {
            if self.members.get(key).is_some_and(|member| !member.joined) {
                groups.leave(now, *key, Departure::InOrder);
            }
        }
        self.refuse_all(unanswered, ErrorCode::NO_SPACE, out);
    }

    fn refuse_all(&mut self, unanswered: Unanswered, code: ErrorCode, out: &mut Outbox) {
        let Unanswered { joins, acks, askers } = unanswered;
        for key in joins {
            if self.members.get(&key).is_some_and(|member| !member.joined) {
                self.members.remove(&key);
                subscribed(key, self.partition, SubscribeOutcome::Refused(refused(code)), out);
            }
        }
        for (key, correlation) in acks {
            let request = RequestId { connection: key.connection, correlation };
            refuse(key.shard, request, code, out);
        }
        for asker in askers {
            refuse(asker.shard, asker.request, code, out);
        }
    }
}
