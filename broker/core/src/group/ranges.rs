//! Which offsets of a chunk are settled.

use lanecast_wire::Offset;

/// Rising ranges, both ends included, that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(Offset, Offset)>);

impl Ranges {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `None` unless the ranges rise and neither overlap nor touch.
    #[must_use]
    pub fn from_rising(ranges: Vec<(Offset, Offset)>) -> Option<Self> {
        let whole = ranges.iter().all(|(first, last)| first <= last);
        let apart = ranges.windows(2).all(|pair| pair[0].1.0 + 1 < pair[1].0.0);
        (whole && apart).then_some(Self(ranges))
    }

    #[must_use]
    pub fn as_slice(&self) -> &[(Offset, Offset)] {
        &self.0
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn records(&self) -> u64 {
        records(&self.0)
    }

    /// Takes a range in, whatever of it is there already.
    pub fn insert(&mut self, first: Offset, last: Offset) {
        debug_assert!(first <= last);
        let (from, to) = self.touched(first, last);
        let first = self.0.get(from).filter(|_| from < to).map_or(first, |low| low.0.min(first));
        let last = if from < to { self.0[to - 1].1.max(last) } else { last };
        self.0.splice(from..to, [(first, last)]);
    }

    /// By how much [`Ranges::insert`] would make the number of ranges grow.
    #[must_use]
    pub fn growth(&self, first: Offset, last: Offset) -> isize {
        let (from, to) = self.touched(first, last);
        1 - (to - from) as isize
    }

    /// What of `first` to `last` is not in here.
    #[must_use]
    pub fn gaps(&self, first: Offset, last: Offset) -> Vec<(Offset, Offset)> {
        let mut gaps = Vec::new();
        let mut at = first.0;
        let begin = self.0.partition_point(|range| range.1 < first);
        for (low, high) in &self.0[begin..] {
            if low.0 > last.0 {
                break;
            }
            if low.0 > at {
                gaps.push((Offset(at), Offset(low.0 - 1)));
            }
            at = high.0 + 1;
        }
        if at <= last.0 {
            gaps.push((Offset(at), last));
        }
        gaps
    }

    /// The first offset from `first` on that is not in here.
    #[must_use]
    pub fn first_gap(&self, first: Offset) -> Offset {
        let at = self.0.partition_point(|range| range.1 < first);
        match self.0.get(at) {
            Some((low, high)) if *low <= first => Offset(high.0 + 1),
            Some(_) | None => first,
        }
    }

    /// Is there nothing at or behind `start`?
    #[must_use]
    pub fn end_below(&self, start: Offset) -> bool {
        self.0.last().is_none_or(|(_, last)| *last < start)
    }

    /// Is all of `first` to `last` in here?
    #[must_use]
    pub fn covers(&self, first: Offset, last: Offset) -> bool {
        self.first_gap(first) > last
    }

    /// Forgets everything from `end` on.
    pub fn truncate(&mut self, end: Offset) {
        self.0.truncate(self.0.partition_point(|range| range.0 < end));
        if let Some((_, last)) = self.0.last_mut()
            && *last >= end
        {
            *last = Offset(end.0 - 1);
        }
    }

    /// Forgets everything below `start`.
    pub fn drop_below(&mut self, start: Offset) {
        self.0.drain(..self.0.partition_point(|range| range.1 < start));
        if let Some((first, _)) = self.0.first_mut() {
            *first = start.max(*first);
        }
    }

    /// The ranges, as indexes, that a new one would become one with.
    fn touched(&self, first: Offset, last: Offset) -> (usize, usize) {
        let from = self.0.partition_point(|range| range.1.0 + 1 < first.0);
        let to = self.0.partition_point(|range| range.0.0 <= last.0 + 1);
        (from, to.max(from))
    }
}

/// How many offsets disjoint ranges hold.
pub(super) fn records(ranges: &[(Offset, Offset)]) -> u64 {
    ranges.iter().map(|(first, last)| last.0 - first.0 + 1).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn offsets(ranges: &[(Offset, Offset)]) -> BTreeSet<u64> {
        ranges.iter().flat_map(|(first, last)| first.0..=last.0).collect()
    }

    proptest! {
        #[test]
        fn ranges_are_a_set_of_offsets(
            inserts in proptest::collection::vec((0_u64..60, 0_u64..9), 0..30),
            (at, len) in (0_u64..60, 0_u64..30),
        ) {
            let (mut ranges, mut set) = (Ranges::new(), BTreeSet::new());
            for (first, len) in inserts {
                let grown = ranges.len() as isize + ranges.growth(Offset(first), Offset(first + len));
                ranges.insert(Offset(first), Offset(first + len));
                set.extend(first..=first + len);
                prop_assert_eq!(ranges.len() as isize, grown);
            }
            prop_assert_eq!(offsets(ranges.as_slice()), set.clone());
            prop_assert_eq!(ranges.records(), set.len() as u64);
            prop_assert_eq!(Ranges::from_rising(ranges.as_slice().to_vec()), Some(ranges.clone()));
            let (first, last) = (Offset(at), Offset(at + len));
            let open: BTreeSet<u64> = (at..=at + len).filter(|n| !set.contains(n)).collect();
            prop_assert_eq!(offsets(&ranges.gaps(first, last)), open.clone());
            prop_assert_eq!(ranges.covers(first, last), open.is_empty());
            let gap = (at..).find(|n| !set.contains(n)).unwrap();
            prop_assert_eq!(ranges.first_gap(first), Offset(gap));
            let (mut below, mut above) = (ranges.clone(), ranges);
            below.truncate(first);
            above.drop_below(first);
            prop_assert_eq!(offsets(below.as_slice()), set.range(..at).copied().collect());
            prop_assert_eq!(offsets(above.as_slice()), set.range(at..).copied().collect());
        }
    }
}
