//! CRC32C (Castagnoli), the checksum of frames and batches, and of blocks in the broker's logs.

use crc_fast::{CrcAlgorithm, Digest};

/// The sum of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The sum of the bytes that `sum` is of and of `bytes` behind them.
#[must_use]
pub fn crc32c_append(sum: u32, bytes: &[u8]) -> u32 {
    // A digest goes on from what stands in its register: the complement of the sum.
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!sum));
    digest.update(bytes);
    u32::try_from(digest.finalize()).expect("a sum of 32 bits")
}

/// The sum of two pieces one behind the other, of which the back one has `back_bytes` bytes.
#[must_use]
pub fn crc32c_combined(front_sum: u32, back_sum: u32, back_bytes: usize) -> u32 {
    // Behind the front there stand as many zero bits as the back has bits, for which the back stands in:
    // that is the front's polynomial times a power of x, of which the powers of two are in a table.
    let squares = POWERS_OF_X.iter().skip(BITS_OF_A_BYTE_LOG2).enumerate();
    let powers = squares.filter(|(bit, _)| back_bytes >> bit & 1 == 1);
    powers.fold(front_sum, |sum, (_, power)| times(*power, sum)) ^ back_sum
}

/// The polynomial, its lowest power in the highest bit, as in all that follows.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const BITS_OF_A_BYTE_LOG2: usize = 3;

/// x to the power of 1, 2, 4, 8 and so on: enough for as many bits as a length in bytes can mean.
const POWERS_OF_X: [u32; usize::BITS as usize + BITS_OF_A_BYTE_LOG2] = {
    let mut powers = [1 << 30; usize::BITS as usize + BITS_OF_A_BYTE_LOG2];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = times(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
};

/// The product of two polynomials, modulo [`POLYNOMIAL`].
const fn times(left: u32, mut right: u32) -> u32 {
    let (mut product, mut bit) = (0, 1 << 31);
    while bit != 0 {
        if left & bit != 0 {
            product ^= right;
        }
        right = (right >> 1) ^ ((right & 1) * POLYNOMIAL);
        bit >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, as the polynomial is written.
    fn by_definition(bytes: &[u8]) -> u32 {
        let mut register = u32::MAX;
        for byte in bytes {
            register ^= u32::from(*byte);
            for _ in 0..8 {
                let carry = register & 1;
                register = (register >> 1) ^ (carry * 0x82f6_3b78);
            }
        }
        !register
    }

    #[test]
    fn sums_are_those_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!((crc32c(b""), crc32c_append(7, b"")), (0, 7));
    }

    /// Different code runs for different lengths and alignments.
    #[test]
    fn sums_of_any_length_follow_the_definition_in_one_piece_and_in_two() {
        let data: Vec<u8> =
            (0..5000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let lengths = (0..300).chain([511, 512, 513, 1023, 1025, 2047, 4095, 4096, 4990]);
        for (start, length) in lengths.enumerate() {
            let bytes = &data[start % 9..][..length];
            let expected = by_definition(bytes);
            assert_eq!(crc32c(bytes), expected, "{length} bytes");
            for cut in [0, 1, length / 3, length / 2, length] {
                let (front, back) = bytes.split_at(cut.min(length));
                assert_eq!(crc32c_append(crc32c(front), back), expected, "{length} at {cut}");
                let combined = crc32c_combined(crc32c(front), crc32c(back), back.len());
                assert_eq!(combined, expected, "{length} at {cut}");
            }
        }
    }
}
