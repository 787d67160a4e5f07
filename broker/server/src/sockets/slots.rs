//! Where an executor's connections are kept, by their numbers.

use lanecast_core::ConnectionId;

use crate::connection::Connection;

/// A connection's number is its slot and how often that slot was used: never the same again.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    open: usize,
}

#[derive(Default)]
struct Slot {
    uses: u32,
    connection: Option<Connection>,
}

fn slot_of(id: ConnectionId) -> usize {
    (id.0 & 0xffff_ffff) as usize
}

fn name(slot: usize, uses: u32) -> ConnectionId {
    ConnectionId(u64::from(uses) << 32 | slot as u64)
}

impl Slots {
    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn put(&mut self, connection: Connection) -> ConnectionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        entry.uses += 1;
        entry.connection = Some(connection);
        self.open += 1;
        name(slot as usize, entry.uses)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(slot_of(id))?;
        if name(slot_of(id), slot.uses) == id { slot.connection.as_mut() } else { None }
    }

    pub(super) fn take(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get_mut(id)?;
        let slot = &mut self.slots[slot_of(id)];
        let connection = slot.connection.take()?;
        self.open -= 1;
        // The last use of a slot's number would be followed by its first: it rests for good.
        if slot.uses < u32::MAX - 1 {
            self.free.push(slot_of(id) as u32);
        }
        Some(connection)
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        let slots = self.slots.iter().enumerate();
        let taken = slots.filter(|(_, slot)| slot.connection.is_some());
        taken.map(|(number, slot)| name(number, slot.uses)).collect()
    }
}
