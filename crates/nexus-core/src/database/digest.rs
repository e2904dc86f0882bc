//! Many rows as one number, whatever their order: equal for two tables that hold the same rows equally often.

use sha2::{Digest, Sha256};

/// The rows seen so far.
///
/// Each row's SHA-256 is added to the sum of those before it, so that the order does not count: another server may sort
/// text differently, and a table without a key has no order at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RowsDigest {
    /// How many.
    pub(crate) rows: u64,
    sum: u128,
}

impl RowsDigest {
    /// Adds a row, as the export writes it.
    pub(crate) fn add(&mut self, row: &[u8]) {
        self.add_hash(&Sha256::digest(row));
    }

    fn add_hash(&mut self, hash: &[u8]) {
        let (half, _) = hash.split_at(size_of::<u128>());
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(half.try_into().expect("split there")));
        self.rows += 1;
    }
}

/// Takes what the export writes, in pieces of any size, and digests the rows in it without keeping one.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    digest: RowsDigest,
    row: Sha256,
    /// The byte that came last: a comma at a row's end is not the row's.
    last: Option<u8>,
    /// Bytes of the row so far.
    length: u64,
}

impl Lines {
    /// Takes a piece.
    pub(crate) fn take(&mut self, mut piece: &[u8]) {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            self.part(&piece[..end]);
            self.end();
            piece = &piece[end + 1..];
        }
        self.part(piece);
    }

    /// The rows that were taken.
    pub(crate) fn digest(&self) -> RowsDigest {
        self.digest
    }

    fn part(&mut self, part: &[u8]) {
        let Some((last, before)) = part.split_last() else { return };
        self.row.update(self.last.as_slice());
        self.row.update(before);
        self.last = Some(*last);
        self.length += part.len() as u64;
    }

    fn end(&mut self) {
        let last = self.last.take();
        // The brackets of the array stand on lines of their own.
        let bracket = self.length == 1 && matches!(last, Some(b'[' | b']'));
        self.row.update(last.filter(|byte| *byte != b',').as_slice());
        let hash = self.row.finalize_reset();
        if !bracket {
            self.digest.add_hash(&hash);
        }
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str, piece: usize) -> RowsDigest {
        let mut lines = Lines::default();
        text.as_bytes().chunks(piece).for_each(|piece| lines.take(piece));
        lines.digest()
    }

    #[test]
    fn neither_order_nor_pieces_count_and_everything_else_does() {
        let one = digest("[\n{\"a\":1},\n{\"a\":2},\n{\"a\":2}\n]\n", 1000);
        assert_eq!(one.rows, 3);
        for piece in [1, 3, 7] {
            assert_eq!(digest("[\n{\"a\":2},\n{\"a\":1},\n{\"a\":2}\n]\n", piece), one);
        }
        assert_ne!(digest("[\n{\"a\":1},\n{\"a\":1},\n{\"a\":2}\n]\n", 9), one);
        assert_ne!(digest("[\n{\"a\":1},\n{\"a\":2}\n]\n", 9), one);
        assert_eq!(digest("[\n]\n", 9), RowsDigest::default());
    }
}
