//! Bytes that a subscription may have under way, per partition.

/// Starts empty: the first grant opens the subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credit {
    left: u64,
    whole: u64,
    /// What comes next is larger than what is left.
    short: bool,
}

impl Credit {
    pub(crate) fn new(whole: u32) -> Self {
        Credit { left: 0, whole: u64::from(whole), short: false }
    }

    pub(crate) fn grant(&mut self, bytes: u32) {
        self.left = (self.left + u64::from(bytes)).min(self.whole);
        self.short = false;
    }

    /// A batch larger than the whole credit takes all of it.
    pub(crate) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes as u64);
    }

    pub(crate) fn left(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    /// What comes next does not fit: until there is more credit, it need not be looked at again,
    /// which may mean a read.
    pub(crate) fn falls_short(&mut self) {
        self.short = true;
    }

    /// Nothing can be sent before more is granted.
    pub(crate) fn is_empty(&self) -> bool {
        self.left == 0 || self.short
    }

    /// Nothing is under way: whatever comes next has to get through.
    pub(crate) fn is_whole(&self) -> bool {
        self.left == self.whole
    }
}
