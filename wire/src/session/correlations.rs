//! Requests that wait for their reply.

use crate::CorrelationId;

/// A bounded table from correlation ids to what waits under them.
///
/// An id is `generation << 32 | slot`; generations start at 1 and change each time that a slot is
/// used again, so an id is never 0 and a late reply never finds somebody else's request.
#[derive(Debug)]
pub(super) struct Correlations<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    capacity: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    waiting: Option<T>,
}

impl<T> Correlations<T> {
    pub(super) fn new(capacity: u32) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), capacity }
    }

    pub(super) fn len(&self) -> u32 {
        (self.slots.len() - self.free.len()) as u32
    }

    /// The id for a new request; gives `waiting` back when the table is full.
    pub(super) fn insert(&mut self, waiting: T) -> Result<CorrelationId, T> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < self.capacity as usize => {
                self.slots.push(Slot { generation: 0, waiting: None });
                (self.slots.len() - 1) as u32
            }
            None => return Err(waiting),
        };
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.checked_add(1).unwrap_or(1);
        slot.waiting = Some(waiting);
        Ok(CorrelationId(u64::from(slot.generation) << 32 | u64::from(index)))
    }

    pub(super) fn take(&mut self, id: CorrelationId) -> Option<T> {
        let index = id.0 as u32;
        let slot = self.slots.get_mut(index as usize)?;
        if u64::from(slot.generation) != id.0 >> 32 {
            return None;
        }
        let waiting = slot.waiting.take()?;
        self.free.push(index);
        Some(waiting)
    }

    /// Everything that waits; the table is empty then.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.free.clear();
        self.slots.drain(..).filter_map(|slot| slot.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_finds_its_request_once_and_no_other() {
        let mut table = Correlations::new(2);
        let first = table.insert("a").unwrap();
        let second = table.insert("b").unwrap();
        assert_eq!(table.insert("c"), Err("c"));
        assert_eq!(table.take(first), Some("a"));
        assert_eq!(table.take(first), None);
        let third = table.insert("c").unwrap();
        assert!(third != first && third.0 != 0);
        assert_eq!(table.take(first), None);
        assert_eq!(table.take(CorrelationId(u64::MAX)), None);
        assert_eq!(table.drain().collect::<Vec<_>>(), ["c", "b"]);
        assert_eq!((table.len(), table.take(second)), (0, None));
    }
}
