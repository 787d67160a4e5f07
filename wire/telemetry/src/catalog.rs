//! Series identities and metric names, each interned once where rows are read.
//!
//! A row then carries two small numbers, and the builder of a batch turns those into the batch's
//! own codes by indexing, without hashing. One catalog serves one source; any number of builders
//! (one per partition) may share it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;
use lanecast_wire::builder::RecordRefused;
use lanecast_wire::{KeyHash, KeyKind, Slot};

use crate::identity::Identity;
use crate::limits;

/// An identity in one catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub(crate) u32);

/// A metric name in one catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MetricId(pub(crate) u32);

/// Interns identities and metric names. Bounded by [`limits`]; a full one refuses new entries and
/// can be [cleared](SeriesCatalog::clear).
pub struct SeriesCatalog {
    generation: u64,
    strings: Vec<Arc<str>>,
    string_ids: HashMap<Arc<str>, u32, FixedState>,
    text_bytes: usize,
    series: Vec<CatalogSeries>,
    labels: Vec<(u32, u32)>,
    /// Keyed by every string id, the GPU index and the labels, in the order of `CatalogSeries`.
    series_ids: HashMap<Box<[u32]>, u32, FixedState>,
    metrics: Vec<u32>,
    metric_ids: HashMap<u32, u32, FixedState>,
    key: Vec<u32>,
}

/// String ids of one identity.
#[derive(Clone, Copy)]
pub(crate) struct CatalogSeries {
    /// In the order of [`Identity::strings`].
    pub(crate) strings: [u32; 7],
    pub(crate) gpu_index: u32,
    pub(crate) labels_start: u32,
    pub(crate) label_count: u16,
    /// Of the uuid; hashing it again for every sample would cost more than all the rest of a push.
    pub(crate) slot: Slot,
    /// Of uuid and hostname, for the same reason.
    pub(crate) key_hashes: [KeyHash; 2],
}

/// Tells catalogs, and the lives of one catalog, apart. The number never reaches a batch.
static NEXT_GENERATION: AtomicU64 = AtomicU64::new(1);

impl Default for SeriesCatalog {
    fn default() -> Self {
        Self::new()
    }
}

impl SeriesCatalog {
    #[must_use]
    pub fn new() -> Self {
        let hasher = FixedState::with_seed(0x6c61_6e65_6361_7374);
        SeriesCatalog {
            generation: NEXT_GENERATION.fetch_add(1, Ordering::Relaxed),
            strings: Vec::new(),
            string_ids: HashMap::with_hasher(hasher.clone()),
            text_bytes: 0,
            series: Vec::new(),
            labels: Vec::new(),
            series_ids: HashMap::with_hasher(hasher.clone()),
            metrics: Vec::new(),
            metric_ids: HashMap::with_hasher(hasher),
            key: Vec::new(),
        }
    }

    /// The id of an identity, which is added when it is new.
    ///
    /// # Errors
    /// The identity breaks a limit or repeats a label, or the catalog is full; nothing was added
    /// but strings.
    pub fn series(&mut self, identity: &Identity<'_>) -> Result<SeriesId, RecordRefused> {
        check_identity(identity)?;
        let mut key = core::mem::take(&mut self.key);
        key.clear();
        let interned = self.intern_key(identity, &mut key);
        let id = interned.and_then(|()| self.series_of_key(&key));
        self.key = key;
        id
    }

    /// The id of a metric name, which is added when it is new.
    ///
    /// # Errors
    /// The name is empty or too long, or the catalog is full.
    pub fn metric(&mut self, name: &str) -> Result<MetricId, RecordRefused> {
        if name.is_empty() {
            return Err(refused("metric", "is empty"));
        }
        let string = self.string("metric", name)?;
        if let Some(id) = self.metric_ids.get(&string) {
            return Ok(MetricId(*id));
        }
        if self.metrics.len() >= limits::METRICS_MAX {
            return Err(full("metric", "metric names", limits::METRICS_MAX));
        }
        let id = self.metrics.len() as u32;
        self.metrics.push(string);
        self.metric_ids.insert(string, id);
        Ok(MetricId(id))
    }

    /// Number of identities.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Number of metric names.
    #[must_use]
    pub fn metric_count(&self) -> usize {
        self.metrics.len()
    }

    /// The uuid of an identity of this catalog.
    #[must_use]
    pub fn uuid(&self, id: SeriesId) -> &str {
        self.text(self.series[id.0 as usize].strings[0])
    }

    /// The slot of that uuid.
    #[must_use]
    pub fn slot(&self, id: SeriesId) -> Slot {
        self.series[id.0 as usize].slot
    }

    /// The name of a metric of this catalog.
    #[must_use]
    pub fn metric_name(&self, id: MetricId) -> &str {
        self.text(self.metrics[id.0 as usize])
    }

    /// Calls `read` with an identity of this catalog, its labels sorted by key.
    pub fn with_identity<T>(&self, id: SeriesId, read: impl FnOnce(&Identity<'_>) -> T) -> T {
        let (series, labels) = self.entry(id);
        let labels: Vec<(&str, &str)> =
            labels.iter().map(|(key, value)| (self.text(*key), self.text(*value))).collect();
        let [uuid, device, model, hostname, container, pod, namespace] =
            series.strings.map(|string| self.text(string));
        let gpu_index = series.gpu_index;
        read(&Identity {
            uuid,
            device,
            model,
            hostname,
            container,
            pod,
            namespace,
            gpu_index,
            labels: &labels,
        })
    }

    /// Forgets everything: every id given out so far is void.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Number of distinct strings, of at most [`limits::CATALOG_STRINGS_MAX`].
    #[must_use]
    pub fn string_count(&self) -> usize {
        self.strings.len()
    }

    /// Bytes of those strings, of at most [`limits::CATALOG_TEXT_BYTES_MAX`].
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    pub(crate) fn text(&self, string: u32) -> &str {
        &self.strings[string as usize]
    }

    pub(crate) fn entry(&self, id: SeriesId) -> (&CatalogSeries, &[(u32, u32)]) {
        let series = &self.series[id.0 as usize];
        let start = series.labels_start as usize;
        (series, &self.labels[start..start + usize::from(series.label_count)])
    }

    pub(crate) fn metric_string(&self, id: MetricId) -> u32 {
        self.metrics[id.0 as usize]
    }

    fn intern_key(
        &mut self,
        identity: &Identity<'_>,
        key: &mut Vec<u32>,
    ) -> Result<(), RecordRefused> {
        for (field, string) in identity.strings() {
            key.push(self.string(field, string)?);
        }
        key.push(identity.gpu_index);
        let sorted = identity.labels.is_sorted_by(|a, b| a.0 < b.0);
        if sorted {
            for (label, value) in identity.labels {
                key.push(self.string("label key", label)?);
                key.push(self.string("label value", value)?);
            }
            return Ok(());
        }
        let mut labels = identity.labels.to_vec();
        labels.sort_unstable();
        if let Some(pair) = labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(refused("labels", &format!("name {:?} twice", pair[0].0)));
        }
        for (label, value) in labels {
            key.push(self.string("label key", label)?);
            key.push(self.string("label value", value)?);
        }
        Ok(())
    }

    fn series_of_key(&mut self, key: &[u32]) -> Result<SeriesId, RecordRefused> {
        if let Some(id) = self.series_ids.get(key) {
            return Ok(SeriesId(*id));
        }
        if self.series.len() >= limits::CATALOG_SERIES_MAX {
            return Err(full("series", "identities", limits::CATALOG_SERIES_MAX));
        }
        let id = self.series.len() as u32;
        let (strings, rest) = key.split_at(7);
        let labels = &rest[1..];
        let hash = |kind, string: u32| KeyHash::of(kind, self.text(string).as_bytes());
        let key_hashes = [hash(KeyKind::Gpu, strings[0]), hash(KeyKind::Host, strings[3])];
        self.series.push(CatalogSeries {
            strings: strings.try_into().expect("split at 7"),
            gpu_index: rest[0],
            labels_start: self.labels.len() as u32,
            label_count: (labels.len() / 2) as u16,
            slot: Slot::of_key(self.text(strings[0]).as_bytes()),
            key_hashes,
        });
        self.labels.extend(labels.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        self.series_ids.insert(key.into(), id);
        Ok(SeriesId(id))
    }

    fn string(&mut self, field: &'static str, string: &str) -> Result<u32, RecordRefused> {
        if let Some(id) = self.string_ids.get(string) {
            return Ok(*id);
        }
        if string.len() > limits::STRING_BYTES_MAX {
            return Err(too_long(field, string.len(), limits::STRING_BYTES_MAX));
        }
        if self.strings.len() >= limits::CATALOG_STRINGS_MAX {
            return Err(full(field, "strings", limits::CATALOG_STRINGS_MAX));
        }
        if self.text_bytes + string.len() > limits::CATALOG_TEXT_BYTES_MAX {
            return Err(full(field, "bytes of text", limits::CATALOG_TEXT_BYTES_MAX));
        }
        let id = self.strings.len() as u32;
        let shared: Arc<str> = string.into();
        self.text_bytes += string.len();
        self.strings.push(Arc::clone(&shared));
        self.string_ids.insert(shared, id);
        Ok(id)
    }
}

fn check_identity(identity: &Identity<'_>) -> Result<(), RecordRefused> {
    if identity.uuid.is_empty() {
        return Err(refused("uuid", "is empty"));
    }
    if identity.labels.len() > limits::LABELS_MAX {
        let reason = format!("are {}, at most {}", identity.labels.len(), limits::LABELS_MAX);
        return Err(refused("labels", &reason));
    }
    if identity.labels.iter().any(|(key, _)| key.is_empty()) {
        return Err(refused("labels", "have an empty key"));
    }
    let bytes = identity.text_bytes();
    if bytes > limits::IDENTITY_BYTES_MAX {
        return Err(too_long("identity", bytes, limits::IDENTITY_BYTES_MAX));
    }
    Ok(())
}

fn refused(field: &'static str, reason: &str) -> RecordRefused {
    RecordRefused { field, reason: reason.into() }
}

fn too_long(field: &'static str, bytes: usize, max: usize) -> RecordRefused {
    RecordRefused { field, reason: format!("has {bytes} bytes, at most {max}") }
}

fn full(field: &'static str, what: &str, max: usize) -> RecordRefused {
    RecordRefused { field, reason: format!("catalog is full: it holds {max} {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity<'a>(uuid: &'a str, labels: &'a [(&'a str, &'a str)]) -> Identity<'a> {
        Identity { uuid, labels, ..Identity::default() }
    }

    #[test]
    fn same_identity_has_one_id_whatever_the_order_of_its_labels() {
        let mut catalog = SeriesCatalog::new();
        let first = catalog.series(&identity("a", &[("x", "1"), ("y", "2")])).unwrap();
        let again = catalog.series(&identity("a", &[("y", "2"), ("x", "1")])).unwrap();
        let other = catalog.series(&identity("a", &[("x", "2"), ("y", "2")])).unwrap();
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(catalog.series_count(), 2);
        assert_eq!(catalog.uuid(other), "a");
        assert_eq!(catalog.slot(other), Slot::of_key(b"a"));
    }

    #[test]
    fn identities_that_break_a_limit_are_refused() {
        let mut catalog = SeriesCatalog::new();
        let long = "x".repeat(limits::STRING_BYTES_MAX + 1);
        let wide = "y".repeat(limits::STRING_BYTES_MAX);
        let keys: Vec<String> = (0..=limits::LABELS_MAX).map(|i| format!("k{i:03}")).collect();
        let many: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
        let heavy: Vec<(&str, &str)> =
            keys[..4].iter().map(|key| (key.as_str(), wide.as_str())).collect();
        for (bad, field) in [
            (identity("", &[]), "uuid"),
            (identity(&long, &[]), "uuid"),
            (identity("a", &[("", "v")]), "labels"),
            (identity("a", &[("k", "1"), ("k", "2")]), "labels"),
            (identity("a", &many), "labels"),
            (identity("a", &heavy), "identity"),
        ] {
            assert_eq!(catalog.series(&bad).unwrap_err().field, field);
        }
        assert_eq!(catalog.series_count(), 0);
        assert_eq!(catalog.metric("").unwrap_err().field, "metric");
        assert_eq!(catalog.metric(&long).unwrap_err().field, "metric");
    }

    #[test]
    fn full_catalog_refuses_new_metrics_and_still_knows_the_old() {
        let mut catalog = SeriesCatalog::new();
        for i in 0..limits::METRICS_MAX {
            catalog.metric(&format!("m{i}")).unwrap();
        }
        assert!(catalog.metric("one too many").unwrap_err().reason.contains("full"));
        assert_eq!(catalog.metric("m17").unwrap(), MetricId(17));
        catalog.clear();
        assert_eq!(catalog.metric("one too many").unwrap(), MetricId(0));
    }
}
