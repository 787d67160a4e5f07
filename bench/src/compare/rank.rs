//! How far apart two small samples are, whatever their distribution.
//!
//! The interval is Moses' distribution-free one, which belongs to the Wilcoxon-Mann-Whitney test
//! (M. Hollander, D. A. Wolfe, E. Chicken, *Nonparametric Statistical Methods*, 3rd edition, section
//! 4.3): of all pairwise ratios, in order, it leaves out as many at either end as the distribution of the
//! statistic U allows. It excludes 1 exactly when the two-sided test rejects that both samples come from
//! the same distribution. Ties make it wider, never narrower.

use crate::limits::EXACT_RANK_ROUNDS_MAX;

/// In how many of a hundred comparisons of equals an interval may miss 1: 1.
pub const ERROR_RATE: f64 = 0.01;

/// 0.995 quantile of the normal distribution: that of [`ERROR_RATE`], half of it at either end.
const NORMAL_QUANTILE: f64 = 2.575_829;

/// The interval that holds `after / before`, for samples of positive values. `None`: too few values to
/// exclude anything.
#[must_use]
pub fn ratio_interval(before: &[f64], after: &[f64]) -> Option<(f64, f64)> {
    let left_out = left_out(before.len(), after.len())?;
    let pairs = after.iter().flat_map(|one| before.iter().map(move |other| one / other));
    let mut ratios: Vec<f64> = pairs.collect();
    ratios.sort_by(f64::total_cmp);
    Some((ratios[left_out], ratios[ratios.len() - 1 - left_out]))
}

/// How many pairwise ratios lie outside of the interval, at either end.
fn left_out(before: usize, after: usize) -> Option<usize> {
    if before.max(after) > EXACT_RANK_ROUNDS_MAX {
        return left_out_of_many(before, after);
    }
    let counts = arrangements(before, after);
    let all: f64 = counts.iter().sum();
    let mut tail = 0.0;
    let mut fitting = 0;
    for count in counts {
        tail += count;
        if tail / all > ERROR_RATE / 2.0 {
            break;
        }
        fitting += 1;
    }
    // One value of U below the interval is one more ratio that is left out, less the one at its end.
    (fitting as usize).checked_sub(1)
}

/// The same by U's normal approximation.
fn left_out_of_many(before: usize, after: usize) -> Option<usize> {
    let (before, after) = (before as f64, after as f64);
    let deviation = (before * after * (before + after + 1.0) / 12.0).sqrt();
    let lowest = before * after / 2.0 - NORMAL_QUANTILE * deviation;
    // A negative one leaves nothing to exclude with.
    (lowest >= 1.0).then(|| lowest as usize - 1)
}

/// Of how many arrangements of two samples U is 0, 1, 2, ...: the coefficients of the Gaussian binomial,
/// the product over i of (1 - q^(after + i)) / (1 - q^i). They are whole and below 2^53, so exact.
fn arrangements(before: usize, after: usize) -> Vec<f64> {
    let mut counts = vec![0.0; before * after + 1];
    counts[0] = 1.0;
    for i in 1..=before {
        for u in (after + i..counts.len()).rev() {
            counts[u] -= counts[u - after - i];
        }
        for u in i..counts.len() {
            counts[u] += counts[u - i];
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrangements_are_those_of_the_tables() {
        assert_eq!(arrangements(2, 2), [1.0, 1.0, 2.0, 1.0, 1.0]);
        let five = arrangements(5, 5);
        assert_eq!(five.iter().sum::<f64>(), 252.0);
        assert_eq!(five[..5], [1.0, 1.0, 2.0, 3.0, 5.0]);
        assert!(five.iter().eq(five.iter().rev()));
        let most = arrangements(EXACT_RANK_ROUNDS_MAX, EXACT_RANK_ROUNDS_MAX);
        let sum: f64 = most.iter().sum();
        assert_eq!(sum, 137_846_528_820.0, "of 40 choose 20");
    }

    #[test]
    fn critical_values_are_those_of_the_tables() {
        // Two-sided, 1 %: largest U that rejects is 0 for 5 and 5, 2 for 6 and 6, 16 for 10 and 10, 105 for
        // 20 and 20.
        let rejecting = [(5, 0), (6, 2), (10, 16), (20, 105)];
        for (each, largest) in rejecting {
            assert_eq!(left_out(each, each), Some(largest), "{each}");
        }
        assert_eq!(left_out(4, 4), None);
        assert_eq!(left_out(0, 100), None);
        let (exact, near) = (left_out(20, 20), left_out_of_many(20, 20));
        assert!(exact.unwrap().abs_diff(near.unwrap()) <= 2, "{exact:?} and {near:?}");
    }

    #[test]
    fn an_interval_excludes_1_where_the_samples_are_apart() {
        let before = [100.0, 101.0, 99.0, 102.0, 98.0];
        let after = before.map(|value| value * 1.1);
        let (low, high) = ratio_interval(&before, &after).unwrap();
        assert!(low > 1.0 && low < 1.1 && high > 1.1, "{low} {high}");
        let (low, high) = ratio_interval(&before, &before).unwrap();
        assert!(low < 1.0 && high > 1.0, "{low} {high}");
        assert_eq!(ratio_interval(&before, &after[..3]), None);
    }
}
