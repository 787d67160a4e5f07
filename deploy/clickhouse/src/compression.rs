//! ClickHouse's compressed blocks, as `compress=1` and `decompress=1` use them.
//!
//! ```text
//! 0   checksum, 16 bytes: CityHash 1.0.2 128 of all that follows, low half first
//! 16  method, 1 byte: 0x82 LZ4, 0x02 not compressed
//! 17  compressed size, u32 LE: this header's 9 bytes included
//! 21  uncompressed size, u32 LE
//! 25  data
//! ```

use bytes::{Buf, Bytes, BytesMut};

use crate::exception::{Exception, code};
use crate::limits::{ANSWER_BLOCK_BYTES, COMPRESSED_BLOCK_BYTES_MAX, LZ4_EXPANSION_MAX};

const CHECKSUM_BYTES: usize = 16;
const HEADER_BYTES: usize = 9;
const PREFIX_BYTES: usize = CHECKSUM_BYTES + HEADER_BYTES;
const METHOD_LZ4: u8 = 0x82;
const METHOD_NONE: u8 = 0x02;

/// Takes a body in any pieces and gives its blocks, checked and decompressed.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pending: BytesMut,
}

impl Decoder {
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.pending.extend_from_slice(piece);
    }

    /// The next whole block, or `None` until more was pushed.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Exception> {
        if self.pending.len() < PREFIX_BYTES {
            return Ok(None);
        }
        let mut header = &self.pending[CHECKSUM_BYTES..PREFIX_BYTES];
        let method = header.get_u8();
        let compressed = header.get_u32_le() as usize;
        let plain = header.get_u32_le() as usize;
        check_sizes(method, compressed, plain)?;
        if self.pending.len() < CHECKSUM_BYTES + compressed {
            return Ok(None);
        }
        let block = self.pending.split_to(CHECKSUM_BYTES + compressed).freeze();
        let (checksum, body) = block.split_at(CHECKSUM_BYTES);
        if checksum != checksum_of(body) {
            return Err(Exception::new(
                code::CHECKSUM_DOESNT_MATCH,
                "CHECKSUM_DOESNT_MATCH",
                "Checksum doesn't match: corrupted data in the request's body",
            ));
        }
        if method == METHOD_NONE {
            return Ok(Some(block.slice(PREFIX_BYTES..)));
        }
        let mut data = vec![0; plain];
        match lz4_flex::block::decompress_into(&body[HEADER_BYTES..], &mut data) {
            Ok(length) if length == plain => Ok(Some(data.into())),
            Ok(_) | Err(_) => Err(Exception::new(
                code::CANNOT_DECOMPRESS,
                "CANNOT_DECOMPRESS",
                "Cannot decompress an LZ4 block of the request's body",
            )),
        }
    }

    /// The body ended: nothing may be left over.
    pub(crate) fn finish(&self) -> Result<(), Exception> {
        if self.pending.is_empty() {
            return Ok(());
        }
        Err(Exception::new(
            code::CANNOT_READ_ALL_DATA,
            "CANNOT_READ_ALL_DATA",
            format_args!(
                "Cannot read all data: the body ends {} bytes into a compressed block",
                self.pending.len()
            ),
        ))
    }
}

fn check_sizes(method: u8, compressed: usize, plain: usize) -> Result<(), Exception> {
    if compressed > COMPRESSED_BLOCK_BYTES_MAX || plain > COMPRESSED_BLOCK_BYTES_MAX {
        return Err(Exception::new(
            code::TOO_LARGE_SIZE_COMPRESSED,
            "TOO_LARGE_SIZE_COMPRESSED",
            format_args!(
                "Too large compressed block: {compressed} bytes for {plain}, at most \
                 {COMPRESSED_BLOCK_BYTES_MAX}. Most likely corrupted data"
            ),
        ));
    }
    let possible = match method {
        METHOD_LZ4 => {
            compressed > HEADER_BYTES && plain <= (compressed - HEADER_BYTES) * LZ4_EXPANSION_MAX
        }
        METHOD_NONE => compressed == plain + HEADER_BYTES,
        _ => false,
    };
    if possible {
        return Ok(());
    }
    Err(Exception::new(
        code::CANNOT_DECOMPRESS,
        "CANNOT_DECOMPRESS",
        format_args!(
            "Not a block that LZ4 could have made (method {method:#04x}, {compressed} bytes for \
             {plain}). Only LZ4 is supported"
        ),
    ))
}

/// Compresses `data` into blocks.
pub(crate) fn encode(data: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(data.len() / 2 + PREFIX_BYTES);
    for chunk in data.chunks(ANSWER_BLOCK_BYTES) {
        let start = out.len();
        let packed = lz4_flex::block::compress(chunk);
        out.extend_from_slice(&[0; CHECKSUM_BYTES]);
        out.push(METHOD_LZ4);
        out.extend_from_slice(&block_size(packed.len() + HEADER_BYTES));
        out.extend_from_slice(&block_size(chunk.len()));
        out.extend_from_slice(&packed);
        let checksum = checksum_of(&out[start + CHECKSUM_BYTES..]);
        out[start..start + CHECKSUM_BYTES].copy_from_slice(&checksum);
    }
    out.into()
}

fn block_size(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("a chunk is at most 1 MiB and LZ4 adds under 1 %").to_le_bytes()
}

fn checksum_of(block: &[u8]) -> [u8; CHECKSUM_BYTES] {
    cityhash_rs::cityhash_102_128(block).rotate_right(64).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8], step: usize) -> Result<Vec<u8>, i32> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for piece in bytes.chunks(step) {
            decoder.push(piece);
            while let Some(block) = decoder.next().map_err(|e| e.code)? {
                out.extend_from_slice(&block);
            }
        }
        decoder.finish().map_err(|e| e.code)?;
        Ok(out)
    }

    #[test]
    fn blocks_survive_any_chunking() {
        let data: Vec<u8> = (0..3_000_000_u32).map(|i| (i / 7 % 251) as u8).collect();
        let packed = encode(&data);
        for step in [1, 24, 25, 4096, packed.len()] {
            assert!(decode(&packed, step).unwrap() == data, "step {step}");
        }
    }

    #[test]
    fn damage_is_told_apart() {
        let packed = encode(b"some text, some text, some text").to_vec();
        assert_eq!(decode(&packed[..packed.len() - 1], 7), Err(code::CANNOT_READ_ALL_DATA));
        let damaged = |at: usize, value: u8| {
            let mut bytes = packed.clone();
            bytes[at] = value;
            decode(&bytes, 64)
        };
        assert_eq!(damaged(0, packed[0] ^ 1), Err(code::CHECKSUM_DOESNT_MATCH));
        assert_eq!(damaged(30, packed[30] ^ 1), Err(code::CHECKSUM_DOESNT_MATCH));
        assert_eq!(damaged(16, 0x90), Err(code::CANNOT_DECOMPRESS));
        assert_eq!(damaged(20, 0xFF), Err(code::TOO_LARGE_SIZE_COMPRESSED));
        // Claims 200 MiB out of some twenty bytes: refused before anything is allocated.
        assert_eq!(damaged(24, 12), Err(code::CANNOT_DECOMPRESS));
    }

    #[test]
    fn blocks_that_are_not_compressed_are_taken() {
        let mut block = vec![METHOD_NONE];
        block.extend_from_slice(&(3 + HEADER_BYTES as u32).to_le_bytes());
        block.extend_from_slice(&3_u32.to_le_bytes());
        block.extend_from_slice(b"abc");
        let mut bytes = checksum_of(&block).to_vec();
        bytes.extend_from_slice(&block);
        assert_eq!(decode(&bytes, 5).unwrap(), b"abc");
    }
}
