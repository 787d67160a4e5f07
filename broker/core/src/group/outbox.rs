//! Outputs of all groups of a partition, in one order.

use std::collections::VecDeque;

use super::{GroupId, GroupRecord, Output, PersistToken};

/// Outputs to be polled, and the records under way.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    outputs: VecDeque<Output>,
    /// Records that are not durable yet and whose they are; tokens rise without holes.
    under_way: VecDeque<(PersistToken, GroupId)>,
    records: u64,
}

impl Outbox {
    pub(super) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn persist(
        &mut self,
        group: GroupId,
        record: &GroupRecord,
        patient: bool,
    ) -> PersistToken {
        self.records += 1;
        let token = PersistToken(self.records);
        self.under_way.push_back((token, group));
        self.outputs.push_back(Output::Persist { token, record: record.encode(group), patient });
        token
    }

    pub(super) fn pop(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The oldest record under way, if it is not behind `durable`.
    pub(super) fn next_durable(
        &mut self,
        durable: PersistToken,
    ) -> Option<(PersistToken, GroupId)> {
        let oldest = *self.under_way.front()?;
        if oldest.0 > durable {
            return None;
        }
        self.under_way.pop_front()
    }
}
