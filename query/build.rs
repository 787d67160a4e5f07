//! Takes the few files of Swagger UI that the service serves out of the archive which
//! `utoipa-swagger-ui-vendored` carries, so that no third-party source lies in this repository and
//! no build needs the network. Deflated entries are wrapped as gzip without being unpacked: that
//! is how they are served, and the binary grows by 0.4 MB instead of 1.8.

use std::path::Path;
use std::{env, fs};

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED as ARCHIVE;

/// File in the archive's `dist/`, and whether it is deflated there.
const FILES: [(&str, bool); 3] =
    [("swagger-ui-bundle.js", true), ("swagger-ui.css", true), ("favicon-32x32.png", false)];

const DEFLATED: u16 = 8;
const STORED: u16 = 0;

struct Entry<'a> {
    method: u16,
    crc: u32,
    unpacked_bytes: u32,
    data: &'a [u8],
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    for (name, deflated) in FILES {
        let entry = find(name);
        let (target, bytes) = if deflated {
            assert_eq!(entry.method, DEFLATED, "{name} is deflated in the archive");
            (format!("{name}.gz"), gzip(&entry))
        } else {
            assert_eq!(entry.method, STORED, "{name} is stored in the archive");
            (name.to_owned(), entry.data.to_vec())
        };
        fs::write(Path::new(&out).join(target), bytes).expect("OUT_DIR is writable");
    }
}

/// Walks the archive's central directory; offsets are those of PKWARE's APPNOTE, 4.3.
fn find(name: &str) -> Entry<'static> {
    let end = ARCHIVE.windows(4).rposition(|bytes| bytes == b"PK\x05\x06").expect("a zip archive");
    let mut at = u32_at(end + 16) as usize;
    for _ in 0..u16_at(end + 10) {
        assert_eq!(&ARCHIVE[at..at + 4], b"PK\x01\x02", "a central directory entry");
        let name_bytes = usize::from(u16_at(at + 28));
        let path = std::str::from_utf8(&ARCHIVE[at + 46..at + 46 + name_bytes]).expect("UTF-8");
        // `swagger-ui-5.x.y/dist/<name>`
        if path.split_once('/').is_some_and(|(_, rest)| rest.strip_prefix("dist/") == Some(name)) {
            let local = u32_at(at + 42) as usize;
            let data =
                local + 30 + usize::from(u16_at(local + 26)) + usize::from(u16_at(local + 28));
            return Entry {
                method: u16_at(at + 10),
                crc: u32_at(at + 16),
                unpacked_bytes: u32_at(at + 24),
                data: &ARCHIVE[data..data + u32_at(at + 20) as usize],
            };
        }
        at += 46 + name_bytes + usize::from(u16_at(at + 30)) + usize::from(u16_at(at + 32));
    }
    panic!("Swagger UI's archive has no dist/{name}");
}

/// RFC 1952: a gzip member is a deflate stream with ten bytes before and eight after it.
fn gzip(entry: &Entry<'_>) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    bytes.extend_from_slice(entry.data);
    bytes.extend_from_slice(&entry.crc.to_le_bytes());
    bytes.extend_from_slice(&entry.unpacked_bytes.to_le_bytes());
    bytes
}

fn u16_at(at: usize) -> u16 {
    u16::from_le_bytes([ARCHIVE[at], ARCHIVE[at + 1]])
}

fn u32_at(at: usize) -> u32 {
    u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16
}
