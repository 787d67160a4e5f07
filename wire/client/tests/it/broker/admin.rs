//! The scripted broker's topics and groups, as far as orders about them go.

use lanecast_wire::message::{DeleteGroup, GroupInfo, MoveGroup};

use super::connection::{Answer, Go};
use super::*;

pub(super) fn handle(state: &mut State, request: Request<'_>, replies: &mut Vec<Answer>) -> Go {
    let refuse = |correlation, code: ErrorCode| -> Answer {
        Box::new(move |session| session.refuse(correlation, Refusal::new(code, "scripted")))
    };
    match request {
        Request::AlterTopic { correlation, alter } => {
            let settings = &mut state.topic.settings;
            settings.retention_bytes = alter.retention_bytes.unwrap_or(settings.retention_bytes);
            settings.max_attempts = alter.max_attempts.unwrap_or(settings.max_attempts);
            let topics = vec![state.topic.clone()];
            replies.push(Box::new(move |session| session.topics(correlation, topics)));
        }
        Request::DeleteTopic { correlation, name } => {
            if name != state.topic.name {
                replies.push(refuse(correlation, ErrorCode::UNKNOWN_TOPIC));
                return Go::On;
            }
            state.topic.name = "deleted".into();
            if state.cut_delete {
                return Go::Close { cut: 0 };
            }
            replies.push(Box::new(move |session| session.done(correlation)));
        }
        Request::ListGroups { correlation, partition } => {
            let found = state.group(partition.index).cloned();
            let groups = found.into_iter().collect();
            replies.push(Box::new(move |session| session.groups(correlation, groups)));
        }
        Request::MoveGroup { correlation, moved } => {
            let MoveGroup { partition, group, to, .. } = moved;
            let StartPosition::Offset(offset) = to else { panic!("tests move to offsets") };
            let active = state.group_is_active;
            replies.push(match state.group(partition).filter(|known| known.name == group) {
                None => refuse(correlation, ErrorCode::UNKNOWN_GROUP),
                Some(_) if active => refuse(correlation, ErrorCode::GROUP_ACTIVE),
                Some(known) => {
                    known.acked_upto = offset;
                    let groups = vec![known.clone()];
                    Box::new(move |session| session.groups(correlation, groups))
                }
            });
        }
        Request::DeleteGroup { correlation, delete } => {
            let DeleteGroup { partition, group, .. } = delete;
            let known = state.group(partition).is_some_and(|known| known.name == group);
            if known {
                state.groups.remove(&partition);
            }
            replies.push(if known {
                Box::new(move |session| session.done(correlation))
            } else {
                refuse(correlation, ErrorCode::UNKNOWN_GROUP)
            });
        }
        other @ (Request::Hello { .. }
        | Request::CreateTopic { .. }
        | Request::DescribeTopic { .. }
        | Request::ListTopics { .. }
        | Request::Produce { .. }
        | Request::Subscribe { .. }
        | Request::Credit(_)
        | Request::Ack { .. }
        | Request::Nack { .. }
        | Request::Terminate { .. }
        | Request::Migrate { .. }
        | Request::Extend { .. }
        | Request::Unsubscribe { .. }) => panic!("{other:?} is no order"),
    }
    Go::On
}

impl State {
    fn group(&mut self, partition: u32) -> Option<&mut GroupInfo> {
        let (end, settled) = (self.logs[partition as usize].next, self.settled(partition));
        let done = self.done(partition).into_iter().flat_map(|(first, last)| first..=last);
        let done = done.collect::<BTreeSet<_>>().len() as u64;
        let group = self.groups.get_mut(&partition)?;
        if !self.group_is_scripted {
            group.high_watermark = end;
            group.acked_upto = settled;
            group.lag_records = end - done;
        }
        Some(group)
    }

    /// How far acks and terminations reach without a hole.
    fn settled(&self, partition: u32) -> u64 {
        self.done(partition)
            .iter()
            .fold(0, |upto, (first, last)| if *first <= upto { upto.max(last + 1) } else { upto })
    }

    /// Acks and terminations, rising.
    fn done(&self, partition: u32) -> Vec<(u64, u64)> {
        let acked = self.acked.iter().map(|(at, first, last)| (*at, *first, *last));
        let terminated = self.terminated.iter().map(|(at, first, last, _)| (*at, *first, *last));
        let mut done: Vec<(u64, u64)> = acked
            .chain(terminated)
            .filter(|(at, ..)| *at == partition)
            .map(|(_, first, last)| (first, last))
            .collect();
        done.sort_unstable();
        done
    }
}

pub(crate) fn group_info(name: &str) -> GroupInfo {
    GroupInfo {
        name: name.into(),
        acked_upto: 0,
        high_watermark: 5,
        lag_records: 0,
        members: 0,
        in_flight_chunks: 0,
        open_chunks: 0,
        redelivered_chunks: 0,
        expired_leases: 0,
        dead_lettered_records: 0,
        skipped_records: 0,
    }
}
