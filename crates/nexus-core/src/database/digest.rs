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
        let hash = Sha256::digest(row);
        let (half, _) = hash.split_at(size_of::<u128>());
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(half.try_into().expect("split there")));
        self.rows += 1;
    }
}

/// Takes what the export writes, in pieces of any size, and digests the rows in it.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    digest: RowsDigest,
    rest: Vec<u8>,
}

impl Lines {
    /// Takes a piece.
    pub(crate) fn take(&mut self, mut piece: &[u8]) {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&piece[..end], &piece[end + 1..]);
            if self.rest.is_empty() {
                Self::row(&mut self.digest, line);
            } else {
                self.rest.extend_from_slice(line);
                Self::row(&mut self.digest, &self.rest);
                self.rest.clear();
            }
            piece = after;
        }
        self.rest.extend_from_slice(piece);
    }

    /// The rows that were taken.
    pub(crate) fn digest(&self) -> RowsDigest {
        self.digest
    }

    fn row(digest: &mut RowsDigest, line: &[u8]) {
        // The brackets of the array stand on lines of their own.
        if line != b"[" && line != b"]" {
            digest.add(line.strip_suffix(b",").unwrap_or(line));
        }
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
