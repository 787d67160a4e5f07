//! How a path names one GPU.

use percent_encoding::percent_decode_str;

use super::ParameterError;
use crate::limits;

/// A GPU as the path names it. Whether the text is a uuid or a slot is for the store to say, which
/// is asked for the uuid first: ids in the wild may hold anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GpuId {
    pub uuid: String,
    /// `hostname:index`, where the text has that form.
    pub slot: Option<Slot>,
}

/// The place of a GPU in a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub hostname: String,
    pub index: u32,
}

impl GpuId {
    /// Parses a path segment, still percent-encoded.
    ///
    /// # Errors
    /// It is empty, too long or not UTF-8, or a bare index, which every host has.
    pub(crate) fn parse(segment: &str) -> Result<Self, ParameterError> {
        let wrong = |reason: &str| ParameterError::new("id", reason);
        let text = percent_decode_str(segment)
            .decode_utf8()
            .map_err(|_| wrong("is not UTF-8 after percent-decoding"))?;
        if text.is_empty() {
            return Err(wrong("is empty"));
        }
        if text.chars().count() as u64 > limits::TEXT_CHARS_MAX {
            return Err(wrong("is longer than an id may be"));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong(
                "is a bare index, which is ambiguous: every host has one; use the GPU's uuid or \
                 hostname:index",
            ));
        }
        let slot = text.rsplit_once(':').and_then(|(hostname, index)| {
            let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
            let index = digits.then(|| index.parse().ok()).flatten()?;
            (!hostname.is_empty()).then(|| Slot { hostname: hostname.to_owned(), index })
        });
        Ok(Self { uuid: text.into_owned(), slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(segment: &str) -> Option<(String, u32)> {
        GpuId::parse(segment).unwrap().slot.map(|slot| (slot.hostname, slot.index))
    }

    #[test]
    fn uuid_and_slot_are_told_apart() {
        assert_eq!(slot("GPU-3f1c9a2e-7b54-4c1d-9f0e-2a6d8b5c4e10"), None);
        assert_eq!(slot("host-031:7"), Some(("host-031".to_owned(), 7)));
        assert_eq!(slot("host-031%3A7"), Some(("host-031".to_owned(), 7)));
        assert_eq!(slot("fe80::1:7"), Some(("fe80::1".to_owned(), 7)));
        for text in ["host:", "host:x", ":7", "host:+7", "host:99999999999"] {
            assert_eq!(slot(text), None, "{text}");
        }
    }

    #[test]
    fn bare_index_is_ambiguous() {
        for text in ["0", "7", "%37", "123456789012345678901234567890"] {
            let error = GpuId::parse(text).unwrap_err();
            assert!(error.reason.contains("ambiguous"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_an_id_is_refused() {
        for text in ["", "%ff", &"x".repeat(600)] {
            assert_eq!(GpuId::parse(text).unwrap_err().param, "id");
        }
    }
}
