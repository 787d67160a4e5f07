//! Stretches of offsets, both ends included, rising and without overlap.

use lanecast_wire::message::OffsetRange;

pub(crate) type Stretch = (u64, u64);

/// What of `first..=last` is not in `settled`.
pub(crate) fn gaps((first, last): Stretch, settled: &[OffsetRange]) -> Vec<Stretch> {
    let mut left = vec![(first, last)];
    for range in settled {
        take(&mut left, (range.first, range.last));
    }
    left
}

/// Takes what `left` has of `wanted` out of it.
pub(crate) fn take(left: &mut Vec<Stretch>, wanted: Stretch) -> Vec<Stretch> {
    let mut taken = Vec::new();
    let mut rest = Vec::new();
    for (first, last) in left.drain(..) {
        let (from, upto) = (first.max(wanted.0), last.min(wanted.1));
        if from > upto {
            rest.push((first, last));
            continue;
        }
        taken.push((from, upto));
        if first < from {
            rest.push((first, from - 1));
        }
        if upto < last {
            rest.push((upto + 1, last));
        }
    }
    *left = rest;
    taken
}

pub(crate) fn overlap(one: &[Stretch], other: &[Stretch]) -> Option<u64> {
    let common =
        |a: &Stretch| other.iter().find(|b| a.0 <= b.1 && b.0 <= a.1).map(|b| a.0.max(b.0));
    one.iter().find_map(common)
}

pub(crate) fn offsets(of: &[Stretch]) -> impl Iterator<Item = u64> + '_ {
    of.iter().flat_map(|(first, last)| *first..=*last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone_and_the_rest_stays() {
        let mut left = gaps((10, 30), &[OffsetRange { first: 15, last: 19 }]);
        assert_eq!(left, [(10, 14), (20, 30)]);
        assert_eq!(take(&mut left, (13, 22)), [(13, 14), (20, 22)]);
        assert_eq!(left, [(10, 12), (23, 30)]);
        assert_eq!(take(&mut left, (13, 22)), []);
        assert_eq!(overlap(&left, &[(12, 12)]), Some(12));
        assert_eq!(overlap(&left, &[(13, 22), (31, 40)]), None);
        assert_eq!(offsets(&left).count(), 11);
    }
}
