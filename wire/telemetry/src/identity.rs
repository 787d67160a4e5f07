//! Who a series belongs to.

/// The identity of a GPU, or of a part of one, as its exporter describes it.
///
/// `uuid` is never empty; every other string may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity<'a> {
    pub uuid: &'a str,
    pub device: &'a str,
    pub model: &'a str,
    pub hostname: &'a str,
    pub container: &'a str,
    pub pod: &'a str,
    pub namespace: &'a str,
    /// Number of the GPU within its host.
    pub gpu_index: u32,
    /// Labels that no field above repeats: in any order when given to a catalog, sorted by key
    /// when read from a batch.
    pub labels: &'a [(&'a str, &'a str)],
}

impl<'a> Identity<'a> {
    /// The strings other than labels, each with its name.
    pub(crate) fn strings(&self) -> [(&'static str, &'a str); 7] {
        [
            ("uuid", self.uuid),
            ("device", self.device),
            ("model", self.model),
            ("hostname", self.hostname),
            ("container", self.container),
            ("pod", self.pod),
            ("namespace", self.namespace),
        ]
    }

    /// Bytes of all its strings.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let strings: usize = self.strings().iter().map(|(_, string)| string.len()).sum();
        let labels: usize = self.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        strings + labels
    }
}
