//! CRC-32C, which guards each WAL record.

/// The polynomial of Castagnoli, bits reversed. Source: `src/port/pg_crc32c_sb8.c`.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLES: [[u32; 256]; 8] = tables();

#[expect(clippy::cast_possible_truncation, reason = "the index is below 256")]
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            };
            bit += 1;
        }
        tables[0][i] = crc;
        i += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut i = 0;
        while i < 256 {
            let last = tables[k - 1][i];
            tables[k][i] = (last >> 8) ^ tables[0][(last & 0xff) as usize];
            i += 1;
        }
        k += 1;
    }
    tables
}

/// A sum over pieces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crc32c(u32);

impl Crc32c {
    pub(super) const fn new() -> Self {
        Self(u32::MAX)
    }

    /// Eight bytes at a time.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let at = |table: usize, byte: u32| TABLES[table][(byte & 0xff) as usize];
        let (eights, rest) = bytes.as_chunks::<8>();
        for [a, b, c, d, e, f, g, h] in eights {
            let low = u32::from_le_bytes([*a, *b, *c, *d]) ^ self.0;
            let high = u32::from_le_bytes([*e, *f, *g, *h]);
            self.0 = at(7, low) ^ at(6, low >> 8) ^ at(5, low >> 16) ^ at(4, low >> 24);
            self.0 ^= at(3, high) ^ at(2, high >> 8) ^ at(1, high >> 16) ^ at(0, high >> 24);
        }
        for byte in rest {
            self.0 = (self.0 >> 8) ^ at(0, self.0 ^ u32::from(*byte));
        }
    }

    pub(super) const fn finish(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums_come_out_however_the_bytes_are_cut() {
        // Source: RFC 3720, B.4.
        let known: [(&[u8], u32); 3] = [
            (b"123456789", 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
        ];
        for (bytes, sum) in known {
            for cut in 0..bytes.len() {
                let mut crc = Crc32c::new();
                crc.update(&bytes[..cut]);
                crc.update(&bytes[cut..]);
                assert_eq!(crc.finish(), sum);
            }
        }
    }
}
