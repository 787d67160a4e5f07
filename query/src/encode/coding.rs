//! Content coding: zstd, gzip or none.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use hyper::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};

use super::format::quality;
use crate::limits;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
    Zstd,
}

/// Level 4 is within 10 % of the size of level 6 on telemetry and twice as fast.
const GZIP_LEVEL: Compression = Compression::new(4);
/// Its window is 2 MiB; a client of HTTP need not take more than 8 (RFC 9659).
const ZSTD_LEVEL: i32 = 3;

impl Coding {
    /// The one that the client likes best, zstd before gzip where it likes both the same.
    pub(crate) fn of_body(headers: &HeaderMap) -> Self {
        Self::choose(headers, [Self::Zstd, Self::Gzip])
    }

    /// The same for what is gzip already: that costs no packing.
    pub(crate) fn of_gzipped(headers: &HeaderMap) -> Self {
        Self::choose(headers, [Self::Gzip, Self::Zstd])
    }

    /// By weight (RFC 9110, 12.5.3), the first of equals. None at all only where none is taken, or
    /// where `identity` is named with a larger weight.
    fn choose(headers: &HeaderMap, available: [Self; 2]) -> Self {
        let accepted: Vec<&str> = headers
            .get_all(ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        let mut best = (0.0, Self::Identity);
        for coding in available {
            let weight = coding.weight(&accepted);
            if weight > best.0 {
                best = (weight, coding);
            }
        }
        if Self::Identity.weight(&accepted) > best.0 { Self::Identity } else { best.1 }
    }

    /// What `Accept-Encoding` gives this coding; 0 if it is not there.
    fn weight(self, accepted: &[&str]) -> f32 {
        let (mut named, mut any) = (None, 0.0);
        for item in accepted {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or("").to_ascii_lowercase();
            if name == "*" {
                any = quality(parts);
            } else if self.names().contains(&name.as_str()) && named.is_none() {
                named = Some(quality(parts));
            }
        }
        match self {
            Self::Gzip => named.unwrap_or(any),
            // What says `*` knows gzip; zstd is newer than much of what says it, and has to be
            // named, as has a wish for no coding.
            Self::Zstd | Self::Identity => named.unwrap_or(0.0),
        }
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Identity => &["identity"],
            Self::Gzip => &["gzip", "x-gzip"],
            Self::Zstd => &["zstd"],
        }
    }

    /// What `Content-Encoding` says of it; nothing where there is none.
    pub(crate) fn header(self) -> Option<HeaderValue> {
        match self {
            Self::Identity => None,
            Self::Gzip | Self::Zstd => Some(HeaderValue::from_static(self.names()[0])),
        }
    }

    /// Ends an `ETag`: each coding is a representation of its own (RFC 9110, 8.8.3.3).
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::Identity => "",
            Self::Gzip => "-gzip",
            Self::Zstd => "-zstd",
        }
    }

    /// Packs a body; a large one on a thread that may be busy for a while.
    pub(crate) async fn pack(self, body: Bytes) -> Bytes {
        if self == Self::Identity || body.len() <= limits::COMPRESS_INLINE_BYTES_MAX {
            return self.pack_now(body);
        }
        let packed = tokio::task::spawn_blocking(move || self.pack_now(body));
        packed.await.expect("compression neither panics nor is aborted")
    }

    fn pack_now(self, body: Bytes) -> Bytes {
        const TO_MEMORY: &str = "writing to a vector cannot fail";
        let out = Vec::with_capacity(body.len() / 8);
        match self {
            Self::Identity => body,
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, GZIP_LEVEL);
                encoder.write_all(&body).expect(TO_MEMORY);
                Bytes::from(encoder.finish().expect(TO_MEMORY))
            }
            Self::Zstd => {
                let mut encoder =
                    zstd::Encoder::new(out, ZSTD_LEVEL).expect("the level is one that exists");
                // Sizes its tables by the body, and tells the client how much room it needs.
                encoder.set_pledged_src_size(Some(body.len() as u64)).expect("nothing is written");
                encoder.write_all(&body).expect(TO_MEMORY);
                Bytes::from(encoder.finish().expect(TO_MEMORY))
            }
        }
    }
}

/// Unpacks an asset of this program.
pub(crate) fn gunzip(asset: &[u8]) -> Bytes {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(asset).read_to_end(&mut out).expect("assets are valid gzip");
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn coding_is_the_one_with_the_most_weight() {
        let chosen = |value| Coding::of_body(&accepting(value));
        assert_eq!(chosen("gzip, deflate, br, zstd"), Coding::Zstd);
        assert_eq!(chosen("gzip, deflate, br"), Coding::Gzip);
        assert_eq!(chosen("br;q=1.0, GZIP;q=0.5"), Coding::Gzip);
        assert_eq!(chosen("zstd;q=0.4, x-gzip;q=0.5"), Coding::Gzip);
        assert_eq!(chosen("ZSTD;q=0.5, gzip;q=0.4"), Coding::Zstd);
        assert_eq!(chosen("zstd;q=0, gzip"), Coding::Gzip);
        assert_eq!(chosen("zstd;q=0"), Coding::Identity);
        assert_eq!(chosen("*"), Coding::Gzip);
        assert_eq!(chosen("*;q=0"), Coding::Identity);
        assert_eq!(chosen("gzip;q=0, *"), Coding::Identity);
        assert_eq!(chosen("gzip;q=0, zstd;q=0.1, *;q=0"), Coding::Zstd);
        assert_eq!(chosen("identity, zstd;q=0.5, gzip;q=0.9"), Coding::Identity);
        assert_eq!(chosen("identity;q=0.5, gzip;q=0.5"), Coding::Gzip);
        assert_eq!(chosen("zstd;q=nonsense"), Coding::Identity);
        assert_eq!(chosen(""), Coding::Identity);
        assert_eq!(Coding::of_body(&HeaderMap::new()), Coding::Identity);
    }

    #[test]
    fn what_is_gzip_stays_gzip_unless_the_client_likes_that_less() {
        let chosen = |value| Coding::of_gzipped(&accepting(value));
        assert_eq!(chosen("gzip, deflate, br, zstd"), Coding::Gzip);
        assert_eq!(chosen("zstd"), Coding::Zstd);
        assert_eq!(chosen("zstd, gzip;q=0.9"), Coding::Zstd);
        assert_eq!(chosen("br"), Coding::Identity);
    }

    #[tokio::test]
    async fn large_and_small_bodies_unpack_to_what_they_were() {
        for bytes in [2_000, 2 * limits::COMPRESS_INLINE_BYTES_MAX] {
            let body = Bytes::from(vec![b'x'; bytes]);
            let gzip = Coding::Gzip.pack(body.clone()).await;
            assert!(gzip.len() < body.len() / 10);
            assert_eq!(gunzip(&gzip), body);
            let zstd = Coding::Zstd.pack(body.clone()).await;
            assert!(zstd.len() < body.len() / 10);
            assert_eq!(zstd::decode_all(&zstd[..]).unwrap(), body);
            assert_eq!(Coding::Identity.pack(body.clone()).await, body);
        }
    }

    /// RFC 9659: a client may refuse more than 8 MiB.
    #[test]
    fn window_of_the_largest_body_is_one_that_every_client_takes() {
        let body = Bytes::from(vec![b'x'; limits::ANSWER_BYTES_MAX]);
        let packed = Coding::Zstd.pack_now(body.clone());
        let mut decoder = zstd::Decoder::new(&packed[..]).unwrap();
        decoder.window_log_max(23).unwrap();
        let mut unpacked = Vec::new();
        decoder.read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == body);
    }
}
