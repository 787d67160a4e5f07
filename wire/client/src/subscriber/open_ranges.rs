//! Which records of a chunk are not settled yet.

use lanecast_wire::message::OffsetRange;

/// Ranges of offsets, rising and without overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenRanges {
    ranges: Vec<OffsetRange>,
}

impl OpenRanges {
    /// `first` to `last` without `settled`.
    pub(crate) fn new(first: u64, last: u64, settled: &[OffsetRange]) -> Self {
        let mut open = Self { ranges: vec![OffsetRange { first, last }] };
        settled.iter().for_each(|range| open.remove(*range));
        open
    }

    pub(crate) fn none() -> Self {
        Self { ranges: Vec::new() }
    }

    pub(crate) fn ranges(&self) -> &[OffsetRange] {
        &self.ranges
    }

    pub(crate) fn records(&self) -> u64 {
        self.ranges.iter().map(|range| range.last - range.first + 1).sum()
    }

    pub(crate) fn contains(&self, offset: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.last < offset);
        self.ranges.get(at).is_some_and(|range| range.first <= offset)
    }

    /// What of `wanted` is in here.
    pub(crate) fn within(&self, wanted: OffsetRange) -> Vec<OffsetRange> {
        let from = self.ranges.partition_point(|range| range.last < wanted.first);
        let overlapping = self.ranges[from..].iter().take_while(|range| range.first <= wanted.last);
        let clipped = overlapping.map(|range| OffsetRange {
            first: range.first.max(wanted.first),
            last: range.last.min(wanted.last),
        });
        clipped.filter(|range| range.first <= range.last).collect()
    }

    /// From the first to the last of `wanted` that is in here.
    pub(crate) fn span(&self, wanted: OffsetRange) -> Option<OffsetRange> {
        let within = self.within(wanted);
        let (first, last) = (within.first()?, within.last()?);
        Some(OffsetRange { first: first.first, last: last.last })
    }

    pub(crate) fn remove(&mut self, gone: OffsetRange) {
        if gone.first > gone.last {
            return;
        }
        let from = self.ranges.partition_point(|range| range.last < gone.first);
        let upto = self.ranges.partition_point(|range| range.first <= gone.last);
        if from == upto {
            return;
        }
        let (front, back) = (self.ranges[from], self.ranges[upto - 1]);
        let before = (front.first < gone.first)
            .then(|| OffsetRange { first: front.first, last: gone.first - 1 });
        let after =
            (gone.last < back.last).then(|| OffsetRange { first: gone.last + 1, last: back.last });
        self.ranges.splice(from..upto, before.into_iter().chain(after));
    }

    /// `more` joins what it overlaps or touches.
    pub(crate) fn insert(&mut self, more: OffsetRange) {
        let from = self.ranges.partition_point(|range| range.last.saturating_add(1) < more.first);
        let upto = self.ranges.partition_point(|range| range.first <= more.last.saturating_add(1));
        let mut joined = more;
        for range in &self.ranges[from..upto] {
            joined.first = joined.first.min(range.first);
            joined.last = joined.last.max(range.last);
        }
        self.ranges.splice(from..upto, [joined]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64) -> OffsetRange {
        OffsetRange { first, last }
    }

    #[test]
    fn what_is_settled_is_taken_out_from_any_side() {
        let mut open = OpenRanges::new(10, 20, &[range(10, 11), range(15, 15)]);
        assert_eq!(open.ranges(), [range(12, 14), range(16, 20)]);
        assert_eq!(open.records(), 8);
        open.remove(range(14, 17));
        assert_eq!(open.ranges(), [range(12, 13), range(18, 20)]);
        assert!(open.contains(13) && !open.contains(14) && !open.contains(17) && open.contains(18));
        assert_eq!(open.within(range(0, 18)), [range(12, 13), range(18, 18)]);
        assert_eq!(open.within(range(14, 17)), []);
        assert_eq!(open.span(range(13, 19)), Some(range(13, 19)));
        assert_eq!(
            (open.span(range(0, 15)), open.span(range(14, 17))),
            (Some(range(12, 13)), None)
        );
        open.remove(range(0, u64::MAX));
        assert_eq!((open.ranges(), open.records()), (&[][..], 0));
    }

    /// Against a set of offsets.
    #[test]
    fn random_removals_and_insertions_agree_with_a_set() {
        let mut state = 7_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            (state >> 33) % below
        };
        let mut open = OpenRanges::new(0, 63, &[]);
        let mut model: std::collections::BTreeSet<u64> = (0..64).collect();
        for _ in 0..2_000 {
            let first = random(64);
            let changed = range(first, (first + random(5)).min(63));
            if random(2) == 0 {
                open.remove(changed);
                model.retain(|at| !(changed.first..=changed.last).contains(at));
            } else {
                open.insert(changed);
                model.extend(changed.first..=changed.last);
            }
            let listed = open.ranges().iter().flat_map(|range| range.first..=range.last);
            assert!(listed.eq(model.iter().copied()), "{open:?} is not {model:?}");
            let apart = open.ranges().windows(2).all(|pair| pair[0].last + 1 < pair[1].first);
            assert!(apart, "{open:?}");
        }
    }
}
