//! The order of a block's rows.
//!
//! The table's key is (GPU, time, metric). Rows come as they were sent: mostly all GPUs of one moment
//! after another. As a GPU is a small number, they are dealt out to their GPUs in two passes, and only
//! within one GPU, where time mostly rises already, is anything compared.

/// Where each row of a block goes.
pub(crate) struct Order {
    /// By series, the rank of its GPU among the GPUs.
    gpus: Vec<u32>,
    keys: Vec<Key>,
    /// By row as it came, its place; once sorted.
    places: Vec<u32>,
    /// By row as it came; once sorted, nothing.
    series: Vec<u32>,
    /// By place, once sorted: a series, and for how many rows.
    runs: Vec<(u32, usize)>,
}

/// What rows of one GPU are sorted by: the last makes equal ones stay as they came.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    ts_ms: i64,
    metric: u32,
    row: u32,
}

impl Order {
    /// For so many rows; `gpus` has the rank of each series' GPU.
    pub(crate) fn new(rows: usize, gpus: Vec<u32>) -> Self {
        let (keys, series) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        Self { gpus, keys, places: Vec::new(), series, runs: Vec::new() }
    }

    /// Adds the next row; `metric` is its rank among the metrics.
    pub(crate) fn push(&mut self, series: u32, ts_ms: i64, metric: u32) {
        self.keys.push(Key { ts_ms, metric, row: self.keys.len() as u32 });
        self.series.push(series);
    }

    /// Gives every row its place.
    pub(crate) fn sort(&mut self) {
        let gpu = |series: u32| self.gpus[series as usize] as usize;
        // Where each GPU's rows begin, and after the dealing where they end.
        let mut ends = vec![0_u32; self.gpus.len() + 1];
        for &series in &self.series {
            ends[gpu(series) + 1] += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        let mut dealt = vec![Key::default(); self.keys.len()];
        for (key, &series) in self.keys.iter().zip(&self.series) {
            let next = &mut ends[gpu(series)];
            dealt[*next as usize] = *key;
            *next += 1;
        }
        let mut start = 0;
        for &end in &ends {
            sort_one_gpu(&mut dealt[start as usize..end as usize]);
            start = end;
        }
        let came = core::mem::take(&mut self.series);
        self.places = vec![0; dealt.len()];
        for (place, key) in (0..).zip(&dealt) {
            self.places[key.row as usize] = place;
            let series = came[key.row as usize];
            match self.runs.last_mut() {
                Some((last, rows)) if *last == series => *rows += 1,
                Some(_) | None => self.runs.push((series, 1)),
            }
        }
        self.keys = Vec::new();
    }

    /// By row as it came, its place.
    pub(crate) fn places(&self) -> &[u32] {
        &self.places
    }

    /// By place, the rows' series, each with how many rows in a row are of it: mostly all of a GPU.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u32, usize)> + Clone {
        self.runs.iter().copied()
    }
}

/// Where time only rises, what is left is to sort the few metrics of each moment.
fn sort_one_gpu(keys: &mut [Key]) {
    if keys.is_sorted_by_key(|key| key.ts_ms) {
        for moment in keys.chunk_by_mut(|one, other| one.ts_ms == other.ts_ms) {
            moment.sort_unstable();
        }
    } else {
        keys.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_stand_by_gpu_time_and_metric_and_equal_ones_as_they_came(
            mut rows in vec((0..5_u32, 0..8_i64, 0..4_u32), 0..60),
            rises in any::<bool>(),
        ) {
            // Two series are of one GPU.
            let gpus = vec![2, 0, 1, 0, 3];
            if rises {
                rows.sort_by_key(|&(_, ts_ms, _)| ts_ms);
            }
            let mut order = Order::new(rows.len(), gpus.clone());
            for &(series, ts_ms, metric) in &rows {
                order.push(series, ts_ms, metric);
            }
            order.sort();
            let mut sorted: Vec<_> = (0..).zip(&rows).collect();
            sorted.sort_by_key(|&(_, &(series, ts_ms, metric))| {
                (gpus[series as usize], ts_ms, metric)
            });
            for (place, &(row, _)) in (0..).zip(&sorted) {
                prop_assert_eq!(order.places()[row], place);
            }
            let series = order.runs().flat_map(|(series, rows)| vec![series; rows]);
            let expected = sorted.iter().map(|&(_, &(series, ..))| series);
            prop_assert_eq!(series.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
    }
}
