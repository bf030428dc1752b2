//! CRC-32C, which guards each WAL record.

/// The polynomial of Castagnoli, bits reversed. Source: `src/port/pg_crc32c_sb8.c`.
const POLYNOMIAL: u32 = 0x82f6_3b78;

static TABLES: [[u32; 256]; 8] = tables();

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

    /// Eight bytes at a time. Written flat: it is called for each byte of WAL, also in builds
    /// without optimization.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let mut crc = self.0;
        let (eights, rest) = bytes.as_chunks::<8>();
        for chunk in eights {
            let both = u64::from_le_bytes(*chunk) ^ crc as u64;
            crc = TABLES[7][(both & 0xff) as usize]
                ^ TABLES[6][(both >> 8 & 0xff) as usize]
                ^ TABLES[5][(both >> 16 & 0xff) as usize]
                ^ TABLES[4][(both >> 24 & 0xff) as usize]
                ^ TABLES[3][(both >> 32 & 0xff) as usize]
                ^ TABLES[2][(both >> 40 & 0xff) as usize]
                ^ TABLES[1][(both >> 48 & 0xff) as usize]
                ^ TABLES[0][(both >> 56) as usize];
        }
        for byte in rest {
            crc = (crc >> 8) ^ TABLES[0][((crc ^ *byte as u32) & 0xff) as usize];
        }
        self.0 = crc;
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
